"""Numbers of a trained model on pictures that it has not seen: those of its last validation, or of any other set.

Of what is told for each picture, the mean and its standard error, s / sqrt(n), are reported. What is told belongs to
the family: a recipe's `measure` (see `recipes.loading`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from huggingvis.core.errors import FileProblem, NumericalTrouble, UsageError
from huggingvis.core.protocols import Batch, Measure
from huggingvis.recipes.evaluation import Evaluation, Subject, Tick, Wanted
from huggingvis.recipes.loading import measure_of
from huggingvis.recipes.pictures import Facts, Pictures

CHUNK = 250
"""Pictures measured at a time; each chunk draws by a seed of its own."""


@final
@dataclass(frozen=True)
class LastLosses:
    """The held-out losses that a training logged last."""

    def __call__(self, subject: Subject) -> Evaluation:
        run = subject.run
        lines = [line for line in run.metrics() if any(key.startswith("validation.") for key in line)]
        if not lines:
            raise FileProblem(f"{run.path} has no held-out losses yet. Let it train until its first validation.")
        last = lines[-1]
        losses = {k.removeprefix("validation."): value for k, value in last.items() if k.startswith("validation.")}
        text = "\n".join(f"{key:<24} {value:.6g}" for key, value in losses.items())
        record = {"run": str(run.path), "recipe": run.config.get("recipe"), "step": last["step"]}
        head = f"Held-out losses of {run.path} at step {last['step']}"
        return Evaluation({**record, "held_out_losses": losses}, f"{head}\n{text}")


@final
@dataclass(frozen=True)
class HeldOut:
    """What the family is compared by, on any pictures.

    Attributes:
        pictures: the pictures to measure on.
        draws: random draws of each number; none: the family's own.
        seed: of the draws.
    """

    pictures: Wanted = Wanted()
    draws: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.draws is not None and self.draws < 1:
            raise UsageError(f"Numbers are estimated by at least one draw, found {self.draws}.")

    def __call__(self, subject: Subject) -> Evaluation:
        run = subject.run
        measure, facts, wanted = measure_of(run, subject.device), Facts.of(run), self.pictures.of(run)
        pictures = wanted.open(facts.view)
        draws = measure.draws if self.draws is None else self.draws
        with subject.progress("measuring", len(pictures)) as tick:
            found = told(measure, _batches(pictures, facts, subject.device), draws, self.seed, tick)
        numbers = {name: mean_and_error(name, values) for name, values in found.items()}
        record = wanted.record(run, len(pictures)) | {"draws": draws, "seed": self.seed}
        lines = [f"{name:<18} {n['mean']:.6g} ± {n['standard_error']:.2g}" for name, n in numbers.items()]
        draws_said = f"{draws} draw{'s' if draws > 1 else ''} of each"
        head = f"{run.path} at step {record['step']} on {len(pictures):,} pictures of {wanted}, {draws_said}"
        text = "\n".join([head, *lines, f"\n{measure.meaning[:1].upper()}{measure.meaning[1:]}."])
        return Evaluation({**record, "meaning": measure.meaning, "measured": numbers}, text)


def told(measure: Measure, batches: Iterable[Batch], draws: int, seed: int, tick: Tick) -> dict[str, Tensor]:
    """What `measure` tells of every picture of `batches`, float64 [N] each on the CPU."""
    parts: dict[str, list[Tensor]] = {}
    done = 0
    for number, batch in enumerate(batches):
        with torch.no_grad():
            each = measure.each(batch, draws, seed + number)
        for name, values in each.items():
            parts.setdefault(name, []).append(values.cpu().double())
        done += len(batch["image"])
        tick(done)
    return {name: torch.cat(values) for name, values in parts.items()}


def mean_and_error(name: str, values: Tensor) -> dict[str, float]:
    """Mean and standard error of `values` [N]. Raises `NumericalTrouble` where one is not finite."""
    bad = int((~torch.isfinite(values)).sum())
    if bad:
        raise NumericalTrouble(
            f"{name} of {bad} of {len(values)} pictures is not finite. The pictures lie outside of what the model can "
            "tell, or its training went wrong: look at its last validation."
        )
    error = float(values.std(correction=0)) / math.sqrt(len(values))
    return {"mean": float(values.mean()), "standard_error": error}


def _batches(pictures: Pictures, facts: Facts, device: torch.device) -> Iterable[Batch]:
    """Batches on the device; with labels only where they mean what they meant in training."""
    known = pictures.facts.classes == facts.classes
    for batch in pictures.once(CHUNK):
        yield {
            key: value.to(device) if isinstance(value, Tensor) else value
            for key, value in batch.items()
            if key != "label" or known
        }
