"""Denoising diffusion in pixel space, on any small picture source, with or without classes.

Ho, Jain & Abbeel 2020, "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239): the linear table, eps
predictions and the unweighted loss, eq. 14. Also the cosine table (Nichol & Dhariwal 2021, arXiv 2102.09672), v
predictions (Salimans & Ho 2022, arXiv 2202.00512) and rectified flow, by name. Book: chapter 4.

    hvis train ddpm --run runs/digits --data mnist --net.channels 32,64,64 --net.blocks 1
    hvis generate 7 --model runs/digits
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from huggingvis.codecs.pixels import Pixels
from huggingvis.core.system import System
from huggingvis.recipes.denoisers import (
    Examples,
    Model,
    PredictionName,
    ProcessName,
    Shell,
    UNetSizes,
    check_names,
    check_side,
    classes_of,
    system,
)
from huggingvis.recipes.previews import Previews
from huggingvis.recipes.setting import Setting, precision
from huggingvis.recipes.sources import Facts, View, open_source
from huggingvis.train.ema import ConstantDecay, Ema
from huggingvis.train.fit import fit
from huggingvis.train.optim import Optim
from huggingvis.train.run import Run
from huggingvis.train.settings import FitSettings, Validation

SYSTEM = {
    "name": "DDPM",
    "chapter": 4,
    "paper": "2006.11239",
    "files": ["objectives/denoise.py", "processes/table.py", "samplers/ancestral.py", "nets/unet.py"],
    "built": "tests/walks/test_recipes.py::test_ddpm_learns_loads_and_draws",
    "exact": "tests/oracle/test_solvers.py::test_ancestral_step_is_bayes",
    "trained": None,
    "explained": None,
    "usable": None,
}


@dataclass(frozen=True)
class Config:
    """Numbers of the training.

    Attributes:
        data: mnist, fashion_mnist or cifar10 (each with :ROOT for its folder), folder:PATH, world or world:N.
        root: folder in which standard data sets lie or are downloaded to.
        size: side of the pictures in pixels; none: the data's own.
        channels: 1 for grey, 3 for colour; none: the data's own.
        flip: mirror half of the training pictures.
        conditional: learn the data's classes; none: if they have some.
        empty: share of labels left out, for classifier-free guidance.
        process: linear or cosine (tables of 1000 noise levels), or flow.
        prediction: eps, x0, v or velocity.
        net: sizes of the U-Net.
        steps: optimiser steps.
        batch: pictures a step.
        lr: learning rate.
        warmup: steps over which it rises.
        ema: decay of the averaged weights.
        sample_every: steps between sample grids and validations.
        samples: pictures of a sample grid.
        sample_steps: DDIM steps of a sample grid.
        precision: bf16 or fp32.
        seed: of the weights and of every draw.
    """

    data: str = "mnist"
    root: str = "data"
    size: int | None = None
    channels: int | None = None
    flip: bool = False
    conditional: bool | None = None
    empty: float = 0.1
    process: ProcessName = "linear"
    prediction: PredictionName = "eps"
    net: UNetSizes = UNetSizes()
    steps: int = 20_000
    batch: int = 64
    lr: float = 2e-4
    warmup: int = 500
    ema: float = 0.999
    sample_every: int = 1000
    samples: int = 40
    sample_steps: int = 50
    precision: Literal["bf16", "fp32"] = "fp32"
    seed: int = 0

    def __post_init__(self) -> None:
        check_names(self.process, self.prediction)


def model(config: Config, facts: Facts) -> Model:
    """The model with fresh weights."""
    check_side(facts.size, config.net.multiple)
    shape = (facts.channels, facts.size, facts.size)
    names = (config.process, config.prediction)
    return Model.fresh(config.net, names, shape, classes=classes_of(config.conditional, facts), pixels=True)


def train(config: Config, setting: Setting) -> Run:
    """Train the U-Net in `setting`'s run folder."""
    torch.manual_seed(config.seed)
    view = View(config.size, config.channels, config.flip)
    source = open_source(config.data, view, root=config.root, seed=config.seed)
    fresh = model(config, source.facts)
    run = setting.begin("ddpm", config)
    source.facts.keep(run)
    conditional = bool(fresh.classes)
    held_out = Examples(source.held_out, source.held_out.images, conditional)
    return fit(
        fresh.objective().to(setting.device),
        Examples(source.training, source.training.images, conditional, config.empty),
        run,
        optim=Optim(lr=config.lr, warmup=config.warmup),
        steps=config.steps,
        batch_size=config.batch,
        ema=Ema(ConstantDecay(config.ema)),
        settings=FitSettings(
            seed=config.seed,
            precision=precision(config.precision),
            validation=Validation(held_out, every=config.sample_every),
            progress=setting.progress,
        ),
        on_step=[Previews(lambda: fresh.preview(config.samples, config.sample_steps), config.sample_every)],
    )


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained; prompts are class names, or empty."""
    facts = Facts.of(run)
    trained = model(config, facts)
    trained.net.load_state_dict(run.weights("net"))
    trained.net.to(device).eval().requires_grad_(False)
    return system(trained, run.path.name, facts, Shell("ddpm", Pixels()))
