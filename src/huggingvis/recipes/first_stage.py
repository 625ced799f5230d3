"""The first stage of latent diffusion on a plain source: an autoencoder, its statistics, and all latents stored once.

Rombach et al. 2022 (arXiv 2112.10752), section 3.1 and appendix G: reconstruction, a little KL, own-feature perception
and a patch adversary; latents are brought to unit size before anything is learnt about them. Book: chapter 5.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from torch import Tensor

from huggingvis.codecs.kl_latents import KLLatents, fit_statistics
from huggingvis.core import config as records
from huggingvis.core.config import to_dict
from huggingvis.core.errors import UsageError
from huggingvis.core.protocols import OnStep
from huggingvis.data.cache import ArrayCache, Recipe
from huggingvis.nets.autoencoder_kl import AutoencoderConfig, AutoencoderKL
from huggingvis.nets.patch_discriminator import PatchDiscriminator
from huggingvis.objectives.latent_autoencoder import LatentAutoencoder, Weights
from huggingvis.recipes.denoiser_training import GROUPS
from huggingvis.recipes.previews import Previews
from huggingvis.recipes.sources import Facts, Pictures, Source
from huggingvis.train.ema import ConstantDecay, Ema
from huggingvis.train.fit import fit
from huggingvis.train.optim import Optim
from huggingvis.train.run import Run
from huggingvis.train.settings import FitSettings, Validation


@dataclass(frozen=True)
class FirstStage:
    """Numbers of the autoencoder.

    Attributes:
        channels: width of each level; all but the last halve the picture.
        patch: pixels are folded into channels by this factor before the first level.
        latent_channels: channels of z.
        kl: weight of the KL term.
        adversary_from: step at which the patch adversary joins.
        steps: optimiser steps.
        batch: pictures a step.
        lr: learning rate.
    """

    channels: tuple[int, ...] = (48, 96)
    patch: int = 2
    latent_channels: int = 4
    kl: float = 1e-6
    adversary_from: int = 3000
    steps: int = 4000
    batch: int = 32
    lr: float = 1e-3

    def __post_init__(self) -> None:
        if not self.channels or self.patch < 1 or any(width < 1 or width % GROUPS for width in self.channels):
            raise UsageError(
                f"The autoencoder's widths are multiples of {GROUPS} and its patch is at least 1, found widths "
                f"{list(self.channels)} and patch {self.patch}."
            )

    @property
    def factor(self) -> int:
        """Pixels to one latent, in each direction."""
        return self.patch * 2 ** (len(self.channels) - 1)


@dataclass(frozen=True)
class Statistics:
    """Mean and deviation of each latent channel over the training pictures."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def autoencoder(config: FirstStage, facts: Facts) -> AutoencoderKL:
    """The autoencoder with fresh weights."""
    sizes = AutoencoderConfig(
        in_channels=facts.channels,
        latent_channels=config.latent_channels,
        channels=config.channels,
        blocks=1,
        extra=0,
        groups=GROUPS,
        middle_attention=False,
        quant_conv=False,
        patch=config.patch,
    )
    return AutoencoderKL(sizes)


def train_autoencoder(config: FirstStage, source: Source, run: Run, settings: FitSettings, every: int) -> Run:
    """Train the autoencoder in the folder `autoencoder` of `run`, or go on in it, or find it done.

    Validation and sheets of held-out pictures above their reconstructions come every `every` steps.
    """
    weights = Weights(kl=config.kl, adversary_from=config.adversary_from)
    critic = PatchDiscriminator(source.facts.channels)
    device = run.parallel.device
    objective = LatentAutoencoder(autoencoder(config, source.facts), critic, weights).to(device)
    record = {"stage": "autoencoder", "config": to_dict(config)}
    stage = Run.begin(run.path / "autoencoder", record, resume=True, parallel=run.parallel)
    seen = source.held_out.batch(0, min(8, len(source.held_out)))["image"].to(device)

    def draw(on_step: OnStep) -> Tensor:
        return torch.cat([seen, objective.autoencoder.decode(objective.autoencoder.encode(seen)).clamp(-1, 1)])

    return fit(
        objective,
        source.training,
        stage,
        optim=Optim(lr=config.lr, betas=(0.9, 0.99), warmup=100),
        steps=config.steps,
        batch_size=config.batch,
        ema=Ema(ConstantDecay(0.999), nets=("autoencoder",)),
        settings=replace(settings, validation=Validation(source.held_out, every=every)),
        on_step=[Previews(draw, every, columns=len(seen))],
    )


def fit_codec(config: FirstStage, source: Source, stage: Run, device: torch.device) -> KLLatents:
    """The trained autoencoder as a codec whose latents have unit size on 2,048 training pictures.

    The numbers that make them so are kept in `stage`'s folder for `bind_codec`.
    """
    net = autoencoder(config, source.facts)
    net.load_state_dict(stage.weights("autoencoder"))
    net = net.to(device).eval().requires_grad_(False)
    training = source.training
    straight = Pictures(training.pictures, training.items, training.view, source.facts)
    size = min(len(straight), 256)
    batches = min(len(straight), 2048) // size
    codec = fit_statistics(net, [straight.batch(i, size)["image"].to(device) for i in range(batches)])
    if stage.parallel.writes:
        statistics = Statistics(tuple(codec.mean.tolist()), tuple(codec.std.tolist()))
        records.save(statistics, stage.path / "statistics.toml")
    return codec


def bind_codec(config: FirstStage, facts: Facts, run: Run, device: torch.device) -> KLLatents:
    """The codec of a finished first stage, from the folder of `run`. Raises `FileProblem` where a part is missing."""
    stage = Run.open(run.path / "autoencoder")
    net = autoencoder(config, facts)
    net.load_state_dict(stage.weights("autoencoder"))
    statistics = records.load(Statistics, stage.path / "statistics.toml")
    codec = KLLatents(net, torch.tensor(statistics.mean), torch.tensor(statistics.std))
    return codec.to(device).eval().requires_grad_(False)


@final
class Latents:
    """Latents of all pictures, straight and (where the view mirrors) mirrored, encoded once and kept in `cache`."""

    def __init__(self, pictures: Pictures, codec: KLLatents, cache: ArrayCache, key: Recipe):
        self.pictures, self.codec = pictures, codec
        self.table = cache.get_or_make(key, self._encoded)["latents"]  # [1 or 2, N, C, h, w] float16

    def __call__(self, places: np.ndarray, mirrored: np.ndarray) -> Tensor:
        rows = self.table[mirrored.astype(np.int64), places]  # [B, C, h, w]
        return torch.from_numpy(rows).float()

    @torch.no_grad()
    def _encoded(self) -> dict[str, np.ndarray]:
        device, views = self.codec.mean.device, []
        for turned in (False, True) if self.pictures.view.flip else (False,):
            rows = []
            for start in range(0, len(self.pictures), 256):
                places = np.arange(start, min(start + 256, len(self.pictures)))
                x = self.pictures.images(places, np.full(len(places), turned)).to(device)
                rows.append(self.codec.encode(x).half().cpu().contiguous())
            views.append(torch.cat(rows))
        return {"latents": torch.stack(views).numpy()}
