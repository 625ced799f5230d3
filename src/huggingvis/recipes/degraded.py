"""What the recipes share that train on degraded pictures: their numbers, their course, the law of the degraded end.

Two things are fitted to training pictures before the first step and kept in the run folder: whatever a process needs,
and the mixture from which pictures are begun (`processes.ends`). Book: chapter 4, "Without noise".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from huggingvis.checkpoints.io import load, save
from huggingvis.codecs.pixels import Pixels
from huggingvis.core.errors import UsageError
from huggingvis.core.process import Prediction
from huggingvis.core.system import System
from huggingvis.objectives.denoise import Error
from huggingvis.processes.ends import MixtureEnd
from huggingvis.recipes.denoiser_training import Noising, UNetTraining
from huggingvis.recipes.denoisers import Examples, Model, Shell, check_side, system
from huggingvis.recipes.picture_training import Sets, Updates, begin, fit_pictures, open_pictures, restored
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts, Source
from huggingvis.train.run import Run

END = "end.safetensors"


@dataclass(frozen=True)
class DegradedTraining(UNetTraining):
    """Numbers of a training on degraded pictures.

    Attributes:
        levels: times at which pictures are restored step by step.
        components: of the mixture from which pictures are begun.
        fitted: training pictures that fits look at.
    """

    levels: int = 20
    components: int = 10
    fitted: int = 2000

    def __post_init__(self) -> None:
        if self.levels < 1 or self.components < 1 or self.fitted < 2:
            raise UsageError(
                "A training on degraded pictures has at least one level, one component and two pictures to fit to; "
                f"found {self.levels}, {self.components} and {self.fitted}."
            )


Trained = TypeVar("Trained", bound=DegradedTraining)
Make = Callable[[Trained, Facts, Run], Model]
"""The model with fresh weights; its process may read what is kept in the run folder."""


def looked_at(config: DegradedTraining, source: Source) -> Tensor:
    """The training pictures that fits look at, [N, C, H, W]."""
    first: Tensor = source.training.batch(0, min(config.fitted, len(source.training)))["image"]
    return first


def unet(config: DegradedTraining, facts: Facts, noising: Noising, prediction: Prediction, error: Error) -> Model:
    """A model without classes in pixel space."""
    check_side(facts.size, config.net.multiple)
    plain = Model.of(config.net, noising, prediction, facts.shape, classes=(), pixels=True)
    return replace(plain, error=error)


def train_degraded(
    name: str,
    config: Trained,
    setting: Setting,
    make: Make[Trained],
    *,
    check: Callable[[Trained, Facts], None] = lambda config, facts: None,
    prepare: Callable[[Trained, Source, Run], None] = lambda config, source, run: None,
) -> Run:
    """Train in `setting`'s run folder by the recipe called `name`.

    `check` raises for pictures that make no sense; `prepare` keeps in the run folder what `make` reads.
    """
    source = open_pictures(config)
    check_side(source.facts.size, config.net.multiple)
    check(config, source.facts)
    run = begin(setting, name, config, source)
    if run.parallel.writes:
        prepare(config, source, run)
    run.parallel.barrier()
    fresh = make(config, source.facts, run)
    if run.parallel.writes:
        keep_end(fresh, config, source, run)
    run.parallel.barrier()
    fresh = replace(fresh, end=MixtureEnd.of(load(run.path / END)))
    sets = Sets(
        Examples(source.training, source.training.images, False),
        Examples(source.held_out, source.held_out.images, False),
    )
    return fit_pictures(
        config,
        setting,
        run,
        fresh.objective(),
        sets,
        draw=lambda on_step: fresh.preview(config.samples, config.sample_steps, on_step),
        updates=Updates(config.optim, config.averages),
    )


def trained(config: Trained, run: Run, device: torch.device, make: Make[Trained]) -> Model:
    """What a run trained, ready for use."""
    model = make(config, Facts.of(run), run)
    restored(model.net, run, "net", device)
    return replace(model, end=MixtureEnd.of(load(run.path / END)))


def bind_degraded(name: str, config: Trained, run: Run, device: torch.device, make: Make[Trained]) -> System:
    """The same as a system."""
    return system(trained(config, run, device, make), run.path.name, Facts.of(run), Shell(name, Pixels()))


def keep_end(model: Model, config: DegradedTraining, source: Source, run: Run) -> None:
    """The law of what the process leaves of training pictures, fitted and kept in the run folder, once."""
    if (run.path / END).exists():
        return
    x = looked_at(config, source)
    left = model.process.signal(x, torch.ones((), dtype=torch.float64))
    found = MixtureEnd.fit(left, components=min(config.components, max(1, len(x) // 2)), seed=config.seed)
    save(run.path / END, found.tensors())
