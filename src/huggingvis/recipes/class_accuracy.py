"""How often a model of classes draws the class that it is asked for, as an independent classifier sees it.

Each class in turn; beside it how often the classifier is right about real pictures of the data, which is what a perfect
model would reach, and chance. Book: chapter 9, "Judges".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.protocols import Classifies
from huggingvis.recipes.evaluation import Evaluation, Subject, Wanted
from huggingvis.recipes.judging import open_judge
from huggingvis.recipes.pictures import Facts, Pictures

CHUNK = 250


@final
@dataclass(frozen=True)
class ClassAccuracy:
    """Share of pictures that the judge takes for the class that was asked for.

    Attributes:
        samples: pictures to draw, each class in turn.
        judge: weights or run of the classifier.
        pictures: real pictures to tell the judge's own accuracy on.
        seed: of the pictures that are drawn.
    """

    samples: int = 1000
    judge: Path | None = None
    pictures: Wanted = Wanted()
    seed: int = 0

    def __call__(self, subject: Subject) -> Evaluation:
        run, facts, wanted = subject.run, Facts.of(subject.run), self.pictures.of(subject.run)
        if self.judge is None:
            raise UsageError(
                "Which class a picture shows is told by a judge that had no part in its making. Give --judge FILE: the "
                "weights of a classifier that this library knows, or the run folder of one trained here."
            )
        asked = [str(name) for name in subject.system.spec.card.get("classes") or ()]
        if not asked:
            raise UsageError(f"{run.path} knows no classes, so that none can be asked of it. Train one that does.")
        judge = open_judge(self.judge, Classifies, "tell classes", subject.device)
        known = _places(asked, judge.classes)
        x = subject.draw(self.samples, self.seed)
        right = _right(x, torch.arange(len(x)) % len(asked), judge, known)
        real = wanted.open(facts.view)
        ceiling = _right(real.all_images(), _labels(real, facts), judge, known)
        each = {name: float(right[i :: len(asked)].mean()) for i, name in enumerate(asked[: self.samples])}
        record = wanted.record(run, len(real)) | {
            "samples": self.samples,
            "seed": self.seed,
            "judge": self.judge.name,
            "accuracy": {**_share(right), "each": each},
            "of_real_pictures": _share(ceiling),
            "chance": 1 / len(asked),
        }
        least = min(each, key=lambda name: each[name])
        text = (
            f"{run.path} at step {record['step']}, {self.samples:,} pictures, each class in turn, seen by "
            f"{self.judge.name}\n"
            f"drawn as asked    {_words(right)}; least of {least}, {each[least]:.1%}\n"
            f"real pictures     {_words(ceiling)} of {wanted}\n"
            f"chance            {1 / len(asked):.1%}"
        )
        return Evaluation(record, text)


def _places(asked: Sequence[str], judged: Sequence[str]) -> Tensor:
    """Which of the judge's classes each of the model's is. Raises `UsageError` where the judge does not know one."""
    lacking = [name for name in asked if name not in judged]
    if lacking:
        raise UsageError(
            f"The judge knows {', '.join(judged)}, but the model draws {lacking[0]!r} too. Give a judge of its classes."
        )
    return torch.tensor([judged.index(name) for name in asked])


def _right(x: Tensor, labels: Tensor, judge: Classifies, known: Tensor) -> Tensor:
    """Of each of the pictures x [N, C, H, W] whether the judge takes it for its class [N], float64 [N]."""
    seen = torch.cat([judge.log_probs(part).argmax(1).cpu() for part in x.split(CHUNK)])
    return (seen == known[labels]).double()


def _labels(pictures: Pictures, facts: Facts) -> Tensor:
    """The classes of all pictures, which must be those of the training."""
    labels = pictures.all_labels()
    if labels is None or pictures.facts.classes != facts.classes:
        raise UsageError(
            f"{pictures.facts.data} is not sorted into the classes that the model was trained on. Give --data of the "
            "same classes."
        )
    return labels


def _share(right: Tensor) -> dict[str, Any]:
    mean = float(right.mean())
    return {"mean": mean, "standard_error": math.sqrt(mean * (1 - mean) / len(right))}


def _words(right: Tensor) -> str:
    told = _share(right)
    return f"{told['mean']:.2%} ± {told['standard_error']:.2%}"
