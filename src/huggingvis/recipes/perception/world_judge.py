"""The judge of the synthetic world: a detector that names and places every sprite. Trained once, then frozen.

Objects as points (Zhou et al. 2019, arXiv 1904.07850) on exact layouts. Pictures are worsened at random (resampled,
blurred, noised, shifted in colour) so that the judge stays sure of pictures that an autoencoder has passed. It is never
a training loss of any generator. Chapter 9.

    hvis train world_judge --run runs/judge
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from ...core.noise import BatchNoise
from ...data.world import World
from ...data.worldset import Mapped, WorldSet, keys_of
from ...nets.detector import Detector, DetectorConfig
from ...objectives.detection import Detection
from ...train.ema import ConstantDecay, Ema
from ...train.fit import fit
from ...train.optim import Cosine, Optim
from ...train.run import Run
from ...train.settings import FitSettings, Validation
from ..setting import Setting, precision


@dataclass(frozen=True)
class Config:
    """Numbers of the training.

    Attributes:
        size: side of the pictures in pixels.
        layouts: layouts rendered once and cycled through.
        steps: optimiser steps.
        batch: pictures a step.
        lr: peak learning rate.
        precision: bf16 or fp32.
        seed: of the weights and of every draw.
    """

    size: int = 64
    layouts: int = 100_000
    steps: int = 3000
    batch: int = 64
    lr: float = 2e-3
    precision: str = "bf16"
    seed: int = 0


def worsen(batch: dict, index: int) -> dict:
    """Half of the pictures come as they are; the rest lose resolution, gain noise and shift in contrast."""
    x = batch["image"]  # [B, 3, S, S]
    noise, rng = BatchNoise(index), torch.Generator().manual_seed(index)
    half = len(x) // 2
    low = int(torch.randint(x.shape[-1] // 2, x.shape[-1], (), generator=rng))
    y = F.interpolate(x[:half], size=(low, low), mode="bilinear", antialias=True)
    y = F.interpolate(y, size=x.shape[-2:], mode="bicubic")
    level = 0.15 * torch.rand(half, 1, 1, 1, generator=rng)
    gain = 1 + 0.15 * (torch.rand(half, 3, 1, 1, generator=rng) - 0.5)
    y = (y * gain + level * noise.draw(y)).clamp(-1, 1)
    return {**batch, "image": torch.cat([y, x[half:]]).contiguous(memory_format=torch.channels_last)}


def train(config: Config, setting: Setting) -> Run:
    """Train the detector in `setting`'s run folder."""
    torch.manual_seed(config.seed)
    world = World(size=config.size, split="all", seed=config.seed + 1)
    net = Detector(DetectorConfig(classes=len(keys_of(world)))).to(memory_format=torch.channels_last)
    run = setting.begin("world_judge", config)
    held = WorldSet(world, 1024, first=10_000_000)
    return fit(
        Detection(net).to(setting.device),
        Mapped(WorldSet(world, config.layouts), worsen),
        run,
        optim=Optim(lr=config.lr, betas=(0.9, 0.99), weight_decay=0.01, warmup=100, schedule=Cosine(config.steps, 0.02)),
        steps=config.steps,
        batch_size=config.batch,
        ema=Ema(ConstantDecay(0.998)),
        settings=FitSettings(
            seed=config.seed,
            precision=precision(config.precision),
            validation=Validation(held, every=500, batches=4),
            progress=setting.progress,
        ),
    )
