"""What a model is measured by where nobody says how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from huggingvis.core.catalog import find_recipe
from huggingvis.recipes.evaluation import Evaluation, Subject
from huggingvis.recipes.held_out import LastLosses
from huggingvis.recipes.loading import Binds, evaluation_of
from huggingvis.recipes.scene_evaluation import SceneScores


@final
@dataclass(frozen=True)
class Usual:
    """Scene accuracy of a system that reads sentences; of another run the last held-out losses, and what its recipe
    compares with a truth of its data, where it knows one.

    Attributes:
        prompts: sentences in each language.
        seed: of sentences and noise.
    """

    prompts: int = 1000
    seed: int = 0

    def __call__(self, subject: Subject) -> Evaluation:
        if not subject.is_run or _reads_sentences(subject):
            return SceneScores(self.prompts, self.seed)(subject)
        last, own = LastLosses()(subject), evaluation_of(subject.run, subject.device)
        if own is None:
            return last
        return Evaluation({**last.record, **own.record}, f"{last.text}\n\n{own.text}", last.notes + own.notes)


def _reads_sentences(subject: Subject) -> bool:
    """Whether a run generates from sentences, and not from classes or nothing, if it generates at all."""
    name = subject.run.config.get("recipe")
    return isinstance(name, str) and isinstance(find_recipe(name), Binds) and subject.system.limits.prompt_required
