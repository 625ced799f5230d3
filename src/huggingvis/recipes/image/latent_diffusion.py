"""Latent diffusion on any small picture source: an autoencoder first, then a diffusion model of its latents.

Rombach et al. 2022 (arXiv 2112.10752), section 3: the KL-regularised autoencoder (section 3.1) is trained on the
source, its latents are brought to unit size and stored once, and a U-Net learns to denoise them (section 3.2), with
the source's classes if it has some. The first stage keeps a run folder of its own inside this one. Book: chapter 5.

    hvis train latent_diffusion --run runs/photos --data folder:photos --size 64
    hvis generate --model runs/photos
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from huggingvis.core.protocols import Measure, OnStep
from huggingvis.core.system import System
from huggingvis.data.cache import ArrayCache
from huggingvis.recipes.denoiser_training import DenoiserTraining, PredictionName, ProcessName, UNetSizes
from huggingvis.recipes.denoisers import Examples, Model, Shell, check_side, classes_of, measure_denoiser, system
from huggingvis.recipes.first_stage import FirstStage, Latents, bind_codec, fit_codec, train_autoencoder
from huggingvis.recipes.picture_training import Sets, Updates, begin, fit_pictures, open_pictures, restored
from huggingvis.recipes.setting import Setting, precision
from huggingvis.recipes.sources import Facts, Pictures
from huggingvis.train.run import Run
from huggingvis.train.settings import FitSettings

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
    "exact": "tests/interop/test_nets.py::test_autoencoder",
    "trained": None,
    "explained": None,
    "usable": None,
}


@dataclass(frozen=True)
class Config(DenoiserTraining):
    """Numbers of the training.

    Attributes:
        autoencoder: numbers of the first stage.
    """

    data: str = "cifar10"
    process: ProcessName = "flow"
    prediction: PredictionName = "velocity"
    autoencoder: FirstStage = FirstStage()
    net: UNetSizes = UNetSizes(channels=(64, 128), attention=(0, 1))
    lr: float = 5e-4


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
    source = open_pictures(config, classes=bool(config.conditional))
    fresh = model(config, source.facts)
    run = begin(setting, "latent_diffusion", config, source)
    settings = FitSettings(
        seed=config.seed, precision=precision(config.precision, setting.device), progress=setting.progress
    )
    stage = train_autoencoder(config.autoencoder, source, run, settings, config.sample_every)
    codec = fit_codec(config.autoencoder, source, stage, setting.device)
    conditional = bool(fresh.classes)
    cache = ArrayCache(run.path / "cache")

    def examples(pictures: Pictures, part: str, empty: float) -> Examples:
        key = {"part": part, "autoencoder steps": config.autoencoder.steps, "count": len(pictures)}
        return Examples(pictures, Latents(pictures, codec, cache, key), conditional, empty)

    def draw(on_step: OnStep) -> Tensor:
        return codec.decode(fresh.preview(config.samples, config.sample_steps, on_step))

    sets = Sets(examples(source.training, "training", config.empty), examples(source.held_out, "held out", 0.0))
    return fit_pictures(
        config,
        setting,
        run,
        fresh.objective(),
        sets,
        draw=draw,
        updates=Updates(config.optim, config.averages),
    )


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained; prompts are class names, or empty."""
    facts = Facts.of(run)
    trained = model(config, facts)
    restored(trained.net, run, "net", device)
    codec = bind_codec(config.autoencoder, facts, run, device)
    shell = Shell("latent_diffusion", codec, {"autoencoder": codec}, config.autoencoder.factor)
    return system(trained, run.path.name, facts, shell)


def measure(config: Config, run: Run, device: torch.device) -> Measure:
    """The loss of a run of this recipe, on latents."""
    facts = Facts.of(run)
    trained = model(config, facts)
    restored(trained.net, run, "net", device)
    return measure_denoiser(trained, bind_codec(config.autoencoder, facts, run, device).encode)
