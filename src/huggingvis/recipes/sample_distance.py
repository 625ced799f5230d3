"""The Fréchet distance between what a model draws and pictures of its data, in the features of a judge.

M. Heusel et al. 2017, arXiv 1706.08500, Eq. 6 (see `recipes.likeness`), beside its floor, the distance between two sets
of real pictures of the same size. Book: chapter 9, "Judges".
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import final

from huggingvis.core.errors import UsageError
from huggingvis.core.request import Prompt, Request, Sampling
from huggingvis.core.system import System
from huggingvis.edits.generate import possible
from huggingvis.recipes.evaluation import Evaluation, Subject, Wanted
from huggingvis.recipes.likeness import likeness
from huggingvis.recipes.pictures import Facts


@final
@dataclass(frozen=True)
class Drawn:
    """How pictures are drawn where it is not as the model usually does."""

    sampler: str | None = None
    schedule: str | None = None
    steps: int | None = None
    guidance_scale: float | None = None

    def of(self, system: System) -> Sampling:
        """With what is not said taken from `system`. Raises `UsageError` for what it cannot do."""
        said = {name: value for name, value in asdict(self).items() if value is not None}
        if said and not system.limits.samplers:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in said)
            raise UsageError(
                f"{system.spec.name!r} ({system.spec.family}) is no diffusion model and draws its pictures in one way "
                f"only, but {flags} would say how. Leave that out."
            )
        return possible(system, Request(Prompt(system.example), sampling=replace(system.defaults, **said))).sampling


@final
@dataclass(frozen=True)
class SampleDistance:
    """Distance of as many samples as real pictures.

    Attributes:
        samples: pictures to draw; each class in turn, where the model knows some.
        judge: weights or run of the network in whose features the distance is; none: the packaged judge.
        pictures: the real ones, twice as many, for the floor.
        drawn: sampler, schedule, steps and guidance, where the model has samplers.
        seed: of the pictures that are drawn.
    """

    samples: int = 1000
    judge: Path | None = None
    pictures: Wanted = Wanted()
    drawn: Drawn = Drawn()
    seed: int = 0

    def __call__(self, subject: Subject) -> Evaluation:
        run, facts, wanted = subject.run, Facts.of(subject.run), self.pictures.of(subject.run)
        sampling = self.drawn.of(subject.system)  # refused before the real pictures are looked at, which takes longer
        real = likeness(wanted, self.samples, facts.view, subject.device, judge=self.judge)
        found = real(subject.draw(self.samples, self.seed, sampling))
        record = wanted.record(run, self.samples) | {
            "seed": self.seed, "judge": real.record["judge"], "frechet": {"value": found, "floor": real.floor},
        }  # fmt: skip
        how = ""
        if subject.system.limits.samplers:
            record["drawn"] = {name: getattr(sampling, name) for name in asdict(self.drawn)}
            how = f" by {sampling.sampler} in {sampling.steps} steps"
        text = (
            f"{run.path} at step {record['step']}: {self.samples:,} pictures{how} against as many of {wanted}, in "
            f"features of {record['judge']}\n"
            f"Fréchet distance        {found:.4g}\n"
            f"other real pictures     {real.floor:.4g}"
        )
        note = f"Distances of few pictures are too large: compare only with those of {self.samples:,}."
        return Evaluation(record, text, (note,))
