"""Diffusion models of pictures in pixel space, whatever the recipe that sets their numbers is called.

Book: chapter 4.
"""

from __future__ import annotations

import torch

from huggingvis.codecs.pixels import Pixels
from huggingvis.core.protocols import Measure
from huggingvis.core.system import System
from huggingvis.recipes.denoiser_likelihood import measure_likelihood
from huggingvis.recipes.denoiser_training import DenoiserTraining
from huggingvis.recipes.denoisers import Examples, Model, Shell, check_side, classes_of, system
from huggingvis.recipes.picture_training import Sets, Updates, begin, fit_pictures, open_pictures, restored
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts
from huggingvis.train.run import Run


def model(config: DenoiserTraining, facts: Facts) -> Model:
    """The model with fresh weights."""
    check_side(facts.size, config.net.multiple)
    shape = facts.shape
    names = (config.process, config.prediction)
    return Model.fresh(config.net, names, shape, classes=classes_of(config.conditional, facts), pixels=True)


def train_pixels(name: str, config: DenoiserTraining, setting: Setting) -> Run:
    """Train the U-Net in `setting`'s run folder by the recipe called `name`."""
    source = open_pictures(config)
    fresh = model(config, source.facts)
    run = begin(setting, name, config, source)
    conditional = bool(fresh.classes)
    sets = Sets(
        Examples(source.training, source.training.images, conditional, config.empty),
        Examples(source.held_out, source.held_out.images, conditional),
    )
    return fit_pictures(
        config,
        setting,
        run,
        fresh.objective(),
        sets,
        draw=lambda: fresh.preview(config.samples, config.sample_steps),
        updates=Updates(config.optim, config.averages),
    )


def bind_pixels(name: str, config: DenoiserTraining, run: Run, device: torch.device, sampler: str = "ddim") -> System:
    """What a run trained, best used with `sampler`; prompts are class names, or empty."""
    facts = Facts.of(run)
    trained = model(config, facts)
    restored(trained.net, run, "net", device)
    return system(trained, run.path.name, facts, Shell(name, Pixels(), sampler=sampler))


def measure_pixels(config: DenoiserTraining, run: Run, device: torch.device) -> Measure:
    """The loss of a run, its variational bound and its density."""
    trained = model(config, Facts.of(run))
    restored(trained.net, run, "net", device)
    return measure_likelihood(trained)
