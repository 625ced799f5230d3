"""What every training on plain pictures shares: its numbers, its course, and the system that comes of it.

A recipe's `Config` inherits `PictureTraining`, adds its own numbers and may set other defaults; its `train` opens the
pictures, builds the model, begins the run and fits:

    source = open_pictures(config)
    model = network(config, source.facts).to(setting.device)
    run = begin(setting, "vae", config, source)
    return fit_pictures(config, setting, run, objective, source, draw=draw)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import nn

from huggingvis.core.objective import Objective
from huggingvis.core.protocols import Batches, Generative
from huggingvis.core.system import System
from huggingvis.recipes.previews import Draw, Previews
from huggingvis.recipes.setting import Setting, precision
from huggingvis.recipes.sources import Facts, Source, View, open_source
from huggingvis.runtime.attention import for_training
from huggingvis.systems.by_class import ClassConditioner
from huggingvis.systems.fixed_size import FixedSize
from huggingvis.train.callbacks import Callback
from huggingvis.train.ema import Ema
from huggingvis.train.fit import fit
from huggingvis.train.optim import Optim
from huggingvis.train.run import Run
from huggingvis.train.settings import FitSettings, Validation


@dataclass(frozen=True)
class Fitting:
    """Numbers of any training.

    Attributes:
        steps: optimiser steps.
        batch: pictures a step.
        lr: learning rate.
        sample_every: steps between sample grids and validations.
        precision: bf16, fp32, or auto: the first where the device is faster in it.
        seed: of the weights and of every draw.
    """

    steps: int = 5000
    batch: int = 128
    lr: float = 1e-3
    sample_every: int = 500
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    seed: int = 0


@dataclass(frozen=True)
class PictureTraining(Fitting):
    """Numbers of a training on plain pictures.

    Attributes:
        data: mnist, fashion_mnist or cifar10 (each with :ROOT for its folder), folder:PATH, world or world:N.
        root: folder in which standard data sets lie or are downloaded to.
        size: side of the pictures in pixels; none: the data set's own, of a folder and the world 64.
        channels: 1 for grey, 3 for colour; none: the data's own.
        flip: mirror half of the training pictures.
    """

    data: str = "mnist"
    root: str = "data"
    size: int | None = None
    channels: int | None = None
    flip: bool = False


def open_pictures(config: PictureTraining, *, classes: bool = False) -> Source:
    """The pictures that `config` names, of a model that asks for `classes` or does not.

    Fresh weights made after this are those of the config's seed.
    """
    torch.manual_seed(config.seed)
    view = View(config.size, config.channels, config.flip, classes)
    return open_source(config.data, view, root=config.root, seed=config.seed)


def begin(setting: Setting, recipe: str, config: PictureTraining, source: Source) -> Run:
    """The run folder, which keeps the facts of its pictures; one that goes on must find them unchanged."""
    run = setting.begin(recipe, config)
    source.facts.keep(run)
    return run


@dataclass(frozen=True)
class Sets:
    """Batches to train on and batches held out, where these are not the pictures themselves."""

    training: Batches
    held_out: Batches


@dataclass(frozen=True)
class Updates:
    """How weights change and what is kept of them.

    Attributes:
        optim: of all nets or of each by its name; none: AdamW at the training's `lr`.
        ema: their averages; none: no averages.
    """

    optim: Optim | Mapping[str, Optim] | None = None
    ema: Ema | None = None


def fit_pictures(
    config: Fitting,
    setting: Setting,
    run: Run,
    objective: Objective,
    sets: Source | Sets,
    *,
    draw: Draw,
    updates: Updates = Updates(),
    on_step: Sequence[Callback] = (),
) -> Run:
    """`fit` with `config`'s numbers; each `sample_every` steps held-out losses and a sheet of what it draws."""
    asked = precision(config.precision, setting.device)
    with for_training(setting.device, asked.autocast or torch.float32):
        return fit(
            objective.to(setting.home),
            sets.training,
            run,
            optim=updates.optim or Optim(lr=config.lr),
            steps=config.steps,
            batch_size=config.batch,
            ema=updates.ema,
            settings=FitSettings(
                seed=config.seed,
                precision=asked,
                validation=Validation(sets.held_out, every=config.sample_every),
                progress=setting.progress,
            ),
            on_step=[Previews(draw, config.sample_every), *on_step],
        )


Net = TypeVar("Net", bound=nn.Module)


def restored(model: Net, run: Run, name: str, device: torch.device) -> Net:
    """`model` with the newest (averaged) weights of net `name` of `run`, frozen for use on `device`."""
    model.load_state_dict(run.weights(name))
    return model.to(device).eval().requires_grad_(False)


def picture_system(
    model: Generative,
    parts: Mapping[str, nn.Module],
    run: Run,
    family: str,
    device: torch.device,
    *,
    classes: tuple[str, ...] = (),
) -> System:
    """A trained model that draws pictures of its training pictures' size in one go, of `classes` if it knows some."""
    facts = Facts.of(run)
    described = FixedSize(
        run.path.name,
        family,
        facts.shape,
        card={"data": facts.data, **({"classes": list(classes)} if classes else {})},
        otherwise=", or train one with that --size",
    )
    conditioner = ClassConditioner(classes, device) if classes else None
    return described.system(model, parts, conditioner=conditioner, device=device)
