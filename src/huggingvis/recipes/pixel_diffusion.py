"""Diffusion models of pictures in pixel space, or in another view of it, whatever the recipe with their numbers is.

A view is a codec with nothing to learn: pixels as they are, bits, wavelets.

Book: chapter 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar, final

import numpy as np
import torch
from torch import Tensor

from huggingvis.codecs.pixels import Pixels
from huggingvis.core.diffusion import Diffuses, Diffusion
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.objective import Objective
from huggingvis.core.protocols import Batches, Codec, Generative, Measure
from huggingvis.core.request import Request
from huggingvis.core.system import System
from huggingvis.objectives.ledger import Bounds
from huggingvis.recipes.denoiser_likelihood import bound_of, measure_likelihood
from huggingvis.recipes.denoiser_training import DenoiserTraining, WeightedTraining
from huggingvis.recipes.denoisers import Examples, Model, Shell, check_side, classes_of, measure_denoiser, system
from huggingvis.recipes.evaluation import Wanted
from huggingvis.recipes.loading import bind_run
from huggingvis.recipes.picture_training import Sets, Updates, begin, fit_pictures, open_pictures, restored
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts, Pictures, Source, View, open_source
from huggingvis.train.run import Run

Trained = TypeVar("Trained", bound=DenoiserTraining)
PIXELS = Pixels()
Drawing = Callable[[Request], Diffusion]
"""How a model samples for a request."""


def model(config: DenoiserTraining, facts: Facts) -> Model:
    """The model with fresh weights."""
    check_side(facts.size, config.net.multiple)
    shape = facts.shape
    names = (config.process, config.prediction)
    return Model.fresh(config.net, names, shape, classes=classes_of(config.conditional, facts), pixels=True)


def weighted(config: WeightedTraining, facts: Facts) -> Model:
    """The same, whose loss weighs noise levels as asked."""
    return replace(model(config, facts), weighting=config.weighs)


def as_they_come(batches: Batches) -> Batches:
    """Batches without noise of their own: each picture gets fresh noise."""
    return batches


def train_pixels(
    name: str,
    config: Trained,
    setting: Setting,
    make: Callable[[Trained, Facts], Model] = model,
    objective: Callable[[Model], Objective] = Model.objective,
    codec: Codec = PIXELS,
    pairs: Callable[[Batches], Batches] = as_they_come,
) -> Run:
    """Train the model that `make` gives, in the space of `codec`, in `setting`'s run folder; the recipe is `name`.

    `pairs` may add `eps` to batches: noise that belongs to their data.
    """
    source = open_pictures(config, classes=bool(config.conditional))
    fresh = make(config, source.facts)
    run = begin(setting, name, config, source)

    def examples(pictures: Pictures, empty: float) -> Batches:
        def read(places: np.ndarray, mirrored: np.ndarray) -> Tensor:
            return codec.encode(pictures.images(places, mirrored))

        return pairs(Examples(pictures, read, bool(fresh.classes), empty))

    return fit_pictures(
        config,
        setting,
        run,
        objective(fresh),
        Sets(examples(source.training, config.empty), examples(source.held_out, 0.0)),
        draw=lambda on_step: codec.decode(fresh.preview(config.samples, config.sample_steps, on_step)),
        updates=Updates(config.optim, config.averages),
    )


def bind_pixels(
    name: str,
    config: Trained,
    run: Run,
    device: torch.device,
    sampler: str | None = None,
    make: Callable[[Trained, Facts], Model] = model,
    codec: Codec = PIXELS,
) -> System:
    """What a run trained, best used with `sampler`; prompts are class names, or empty."""
    facts = Facts.of(run)
    trained = _restored(make(config, facts), run, device)
    shell = Shell(name, codec, factor=facts.size // trained.shape[1], sampler=sampler)
    return system(trained, run.path.name, facts, shell)


def measure_pixels(
    config: Trained,
    run: Run,
    device: torch.device,
    make: Callable[[Trained, Facts], Model] = model,
    *,
    bound: Callable[[Model], Bounds] = bound_of,
    ode: bool = True,
) -> Measure:
    """The loss of a run and its variational bound; with `ode`, its density by the probability flow."""
    trained = _restored(make(config, Facts.of(run)), run, device)
    return measure_likelihood(trained, bound(trained), ode)


def _restored(fresh: Model, run: Run, device: torch.device) -> Model:
    """With the run's weights; a learnt schedule, which is asked for one time after another, stays on the CPU."""
    restored(fresh.net, run, "net", device)
    for name, part in fresh.schedule.items():
        restored(part, run, name, torch.device("cpu"))
    return fresh


def measure_coded(
    config: Trained, run: Run, device: torch.device, make: Callable[[Trained, Facts], Model], codec: Codec
) -> Measure:
    """The loss of a run, in the space of `codec`."""
    trained = _restored(make(config, Facts.of(run)), run, device)
    return measure_denoiser(trained, codec.encode)


@final
@dataclass(frozen=True)
class PixelRecipe:
    """`train`, `bind` and `measure` of the recipe called `name`, whose `Config` is all that sets it apart.

    `sampler`: what its models are best sampled with, where that is not what their process is usually sampled with.
    """

    name: str
    sampler: str | None = None

    def train(self, config: WeightedTraining, setting: Setting) -> Run:
        """Train the U-Net in `setting`'s run folder."""
        return train_pixels(self.name, config, setting, weighted)

    def bind(self, config: DenoiserTraining, run: Run, device: torch.device) -> System:
        """What a run of this recipe trained; prompts are class names, or empty."""
        return bind_pixels(self.name, config, run, device, sampler=self.sampler)

    def measure(self, config: DenoiserTraining, run: Run, device: torch.device) -> Measure:
        """The loss of a run of this recipe, its variational bound and its density."""
        return measure_pixels(config, run, device)


def diffusion_of(model: Generative) -> Diffusion | None:
    """The diffusion model inside of one that tells its density as well; None for anything else."""
    return model.diffusion if isinstance(model, Diffuses) else None


def data_of(denoiser: str, data: str, root: str) -> tuple[str, str]:
    """`data` and `root`; of what is empty, what the run folder `denoiser` was trained on."""
    told = Wanted(data or None, root=root or None).of(_run_of(denoiser))
    assert told.data is not None and told.root is not None  # `of` saw to it
    return told.data, told.root


def pictures_of(denoiser: str, data: str, root: str, *, seed: int, classes: bool = False) -> Source:
    """The pictures `data` as the model of the run folder `denoiser` makes them, with `classes` if asked for."""
    facts = Facts.of(_run_of(denoiser))
    return open_source(data, View(facts.size, facts.channels, False, classes), root=root, seed=seed)


def _run_of(denoiser: str) -> Run:
    if not denoiser:
        raise UsageError("This recipe builds on a trained diffusion model: name its run folder with --denoiser.")
    try:
        return Run.open(denoiser)
    except FileProblem as error:
        raise FileProblem(f"{error} It is the diffusion model that this is built on (--denoiser).") from None


def bind_denoiser(path: str, facts: Facts, device: torch.device) -> tuple[System, Drawing]:
    """The diffusion model of the run folder `path`: as a system, and how it samples for a request.

    Raises `UsageError` unless it makes pictures like those of `facts` in pixel space.
    """
    _run_of(path)
    found = bind_run(path, device)
    usual = diffusion_of(found.generator(Request(sampling=found.defaults)))
    if usual is None or usual.shape != facts.shape:
        raise UsageError(
            f"Pictures {facts.shape} need a diffusion model of the same pictures in pixel space, but {path} is a "
            f"{found.spec.family} of {found.spec.size}. Name another run with --denoiser."
        )

    def generator(request: Request) -> Diffusion:
        model = diffusion_of(found.generator(request))
        assert model is not None
        return model

    return found, generator
