"""Latent diffusion on any small picture source: an autoencoder first, then a diffusion model of its latents.

Rombach et al. 2022 (arXiv 2112.10752), section 3: the KL-regularised autoencoder (section 3.1) is trained on the
source, its latents are brought to unit size and stored once, and a U-Net learns to denoise them (section 3.2), with
the source's classes if it has some. The first stage keeps a run folder of its own inside this one. Book: chapter 5.

    hvis train latent_diffusion --run runs/photos --data folder:photos --size 64
    hvis generate --model runs/photos
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from huggingvis.core.system import System
from huggingvis.data.cache import ArrayCache
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
from huggingvis.recipes.first_stage import FirstStage, Latents, bind_codec, fit_codec, train_autoencoder
from huggingvis.recipes.previews import Previews
from huggingvis.recipes.setting import Setting, precision
from huggingvis.recipes.sources import Facts, Pictures, View, open_source
from huggingvis.train.ema import ConstantDecay, Ema
from huggingvis.train.fit import fit
from huggingvis.train.optim import Optim
from huggingvis.train.run import Run
from huggingvis.train.settings import FitSettings, Validation

SYSTEM = {
    "name": "Latent diffusion",
    "chapter": 5,
    "paper": "2112.10752",
    "files": [
        "objectives/latent_autoencoder.py",
        "objectives/denoise.py",
        "nets/autoencoder_kl.py",
        "nets/unet.py",
        "codecs/kl_latents.py",
    ],
    "built": "tests/walks/test_recipes.py::test_latent_diffusion_learns_loads_and_draws",
    "exact": None,
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
        autoencoder: numbers of the first stage.
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

    data: str = "cifar10"
    root: str = "data"
    size: int | None = None
    channels: int | None = None
    flip: bool = False
    conditional: bool | None = None
    empty: float = 0.1
    process: ProcessName = "flow"
    prediction: PredictionName = "velocity"
    autoencoder: FirstStage = FirstStage()
    net: UNetSizes = UNetSizes(channels=(64, 128), attention=(0, 1))
    steps: int = 20_000
    batch: int = 64
    lr: float = 5e-4
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
    """The second stage with fresh weights."""
    stage = config.autoencoder
    check_side(facts.size, stage.factor * config.net.multiple)
    side = facts.size // stage.factor
    classes = classes_of(config.conditional, facts)
    names = (config.process, config.prediction)
    return Model.fresh(config.net, names, (stage.latent_channels, side, side), classes=classes, pixels=False)


def train(config: Config, setting: Setting) -> Run:
    """Train both stages in `setting`'s run folder."""
    torch.manual_seed(config.seed)
    view = View(config.size, config.channels, config.flip)
    source = open_source(config.data, view, root=config.root, seed=config.seed)
    fresh = model(config, source.facts)
    run = setting.begin("latent_diffusion", config)
    source.facts.keep(run)
    settings = FitSettings(seed=config.seed, precision=precision(config.precision), progress=setting.progress)
    stage = train_autoencoder(config.autoencoder, source, run, settings, config.sample_every)
    codec = fit_codec(config.autoencoder, source, stage, setting.device)
    conditional = bool(fresh.classes)
    cache = ArrayCache(run.path / "cache")

    def examples(pictures: Pictures, part: str, empty: float) -> Examples:
        key = {"part": part, "autoencoder steps": config.autoencoder.steps, "count": len(pictures)}
        return Examples(pictures, Latents(pictures, codec, cache, key), conditional, empty)

    held_out = examples(source.held_out, "held out", 0.0)

    def draw() -> Tensor:
        return codec.decode(fresh.preview(config.samples, config.sample_steps))

    return fit(
        fresh.objective().to(setting.device),
        examples(source.training, "training", config.empty),
        run,
        optim=Optim(lr=config.lr, warmup=config.warmup),
        steps=config.steps,
        batch_size=config.batch,
        ema=Ema(ConstantDecay(config.ema)),
        settings=replace(settings, validation=Validation(held_out, every=config.sample_every)),
        on_step=[Previews(draw, config.sample_every)],
    )


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained; prompts are class names, or empty."""
    facts = Facts.of(run)
    trained = model(config, facts)
    trained.net.load_state_dict(run.weights("net"))
    trained.net.to(device).eval().requires_grad_(False)
    codec = bind_codec(config.autoencoder, facts, run, device)
    shell = Shell("latent_diffusion", codec, {"autoencoder": codec}, config.autoencoder.factor)
    return system(trained, run.path.name, facts, shell)
