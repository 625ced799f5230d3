"""The Parzen window estimate of a trained generator, as the papers of the first adversarial nets report it.

Goodfellow et al. 2014, arXiv 1406.2661, Sec. 5: log-likelihood of test pictures under Gaussian kernels on 10,000
generated ones, of a width chosen on validation pictures (see `metrics.parzen`). A model of classes draws as many of
each (Mirza & Osindero 2014, arXiv 1411.1784, Sec. 4.1). Book: chapter 2.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import final

from huggingvis.core.errors import UsageError
from huggingvis.data.standard import Split
from huggingvis.metrics.parzen import parzen
from huggingvis.recipes.evaluation import Evaluation, Subject, Wanted
from huggingvis.recipes.pictures import Facts, Pictures, View

WIDTH_FROM = 1000
"""Validation pictures that the width is chosen on; where validation pictures are measured, these are not."""


@final
@dataclass(frozen=True)
class ParzenWindow:
    """Mean log-likelihood, in nats per picture of values in [0, 1].

    Attributes:
        samples: pictures to draw.
        pictures: the pictures to measure on.
        seed: of the pictures that are drawn.
    """

    samples: int = 10_000
    pictures: Wanted = Wanted()
    seed: int = 0

    def __call__(self, subject: Subject) -> Evaluation:
        run = subject.run
        facts, wanted = Facts.of(run), self.pictures.of(run)
        validation, measured = _apart(wanted, facts.view)
        samples = subject.draw(self.samples, self.seed)
        held, x = (pictures.all_images().to(subject.device) for pictures in (validation, measured))
        score = parzen(samples.to(subject.device), held, x)
        record = wanted.record(run, score.n) | {"samples": self.samples, "seed": self.seed}
        text = (
            f"{run.path} at step {record['step']} on {score.n:,} pictures of {wanted}\n"
            f"Parzen window     {score.mean:.6g} ± {score.error:.2g} nats per picture\n\n"
            f"Kernels of width {score.sigma:.3g}, the best of ten on {len(validation):,} validation pictures, around "
            f"{self.samples:,} generated ones."
        )
        return Evaluation({**record, "width_chosen_on": len(validation), "parzen": asdict(score)}, text)


def _apart(wanted: Wanted, view: View) -> tuple[Pictures, Pictures]:
    """Pictures to choose the width on, and those to measure, which are others even where a split has both."""
    held = replace(wanted, split=Split.VALIDATION, limit=None).open(view)
    validation = held.some(min(WIDTH_FROM, (len(held) + 1) // 2))
    measured = replace(wanted, limit=None).open(view)
    if measured.pictures.name == validation.pictures.name:
        measured = measured.without(validation)
    if not len(measured):
        raise UsageError(f"{wanted} has too few pictures to choose a width on some and measure others. Give more.")
    return validation, measured if wanted.limit is None else measured.some(wanted.limit)
