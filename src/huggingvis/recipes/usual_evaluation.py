"""What a model is measured by where nobody says how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from huggingvis.core.catalog import find_recipe
from huggingvis.recipes.evaluation import Evaluation, Subject
from huggingvis.recipes.held_out import LastLosses
from huggingvis.recipes.loading import Binds
from huggingvis.recipes.scene_evaluation import SceneScores


@final
@dataclass(frozen=True)
class Usual:
    """Scene accuracy of a system that reads sentences; of another run the held-out losses of its last validation.

    Attributes:
        prompts: sentences in each language.
        seed: of sentences and noise.
    """

    prompts: int = 1000
    seed: int = 0

    def __call__(self, subject: Subject) -> Evaluation:
        scenes = SceneScores(self.prompts, self.seed)
        return LastLosses()(subject) if subject.is_run and not _reads_sentences(subject) else scenes(subject)


def _reads_sentences(subject: Subject) -> bool:
    """Whether a run generates from sentences, and not from classes or nothing, if it generates at all."""
    name = subject.run.config.get("recipe")
    return isinstance(name, str) and isinstance(find_recipe(name), Binds) and subject.system.limits.prompt_required
