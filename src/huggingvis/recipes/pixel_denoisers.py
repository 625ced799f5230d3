"""What the recipes of diffusion models in pixel space share: their training and their system, for any `Model`.

Book: chapter 4.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from huggingvis.codecs.pixels import Pixels
from huggingvis.core.diffusion import Diffusion
from huggingvis.core.errors import UsageError
from huggingvis.core.objective import Objective
from huggingvis.core.request import Request
from huggingvis.core.system import System
from huggingvis.recipes.denoiser_training import DenoiserTraining
from huggingvis.recipes.denoisers import Examples, Model, Shell, check_side, classes_of, system
from huggingvis.recipes.loading import bind_run
from huggingvis.recipes.picture_training import Sets, Updates, begin, fit_pictures, open_pictures, restored
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts
from huggingvis.train.run import Run


def named(config: DenoiserTraining, facts: Facts) -> Model:
    """The model with fresh weights, of the process and the prediction that `config` names."""
    check_side(facts.size, config.net.multiple)
    names = (config.process, config.prediction)
    return Model.fresh(config.net, names, facts.shape, classes=classes_of(config.conditional, facts), pixels=True)


def train_pixels(
    recipe: str,
    config: DenoiserTraining,
    setting: Setting,
    model: Callable[[Facts], Model],
    objective: Callable[[Model], Objective] = Model.objective,
) -> Run:
    """Train the `model` of the pictures that `config` names, as `recipe`, in `setting`'s run folder."""
    source = open_pictures(config)
    fresh = model(source.facts)
    run = begin(setting, recipe, config, source)
    conditional = bool(fresh.classes)
    sets = Sets(
        Examples(source.training, source.training.images, conditional, config.empty),
        Examples(source.held_out, source.held_out.images, conditional),
    )
    return fit_pictures(
        config,
        setting,
        run,
        objective(fresh),
        sets,
        draw=lambda: fresh.preview(config.samples, config.sample_steps),
        updates=Updates(config.optim, config.averages),
    )


def bind_pixels(recipe: str, model: Callable[[Facts], Model], run: Run, device: torch.device) -> System:
    """What a run of `recipe` trained; prompts are class names, or empty."""
    facts = Facts.of(run)
    trained = model(facts)
    restored(trained.net, run, "net", device)
    return system(trained, run.path.name, facts, Shell(recipe, Pixels()))


def bind_denoiser(path: str, facts: Facts, device: torch.device) -> tuple[System, Diffusion]:
    """The diffusion model of the run folder `path`, as a system and as it samples by default.

    Raises `UsageError` unless it makes pictures like those of `facts` in pixel space.
    """
    if not path:
        raise UsageError("This recipe builds on a trained diffusion model: name its run folder with --denoiser.")
    found = bind_run(path, device)
    model = found.generator(Request(sampling=found.defaults))
    if not isinstance(model, Diffusion) or model.shape != facts.shape:
        raise UsageError(
            f"Pictures {facts.shape} need a diffusion model of the same pictures in pixel space, but {path} is a "
            f"{found.spec.family} of {found.spec.size}. Name another run with --denoiser."
        )
    return found, model
