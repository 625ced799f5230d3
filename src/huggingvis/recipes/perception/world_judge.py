"""The judge of the synthetic world: a detector that names and places every sprite. Trained once, then frozen.

Objects as points (Zhou et al. 2019, arXiv 1904.07850) on exact layouts. Pictures are worsened at random (resampled,
blurred, noised, shifted in colour) so that the judge stays sure of pictures that an autoencoder has passed. It is never
a training loss of any generator. Book: chapter 9.

    hvis train world_judge --run runs/judge

The shipped judge went on twice from such a run with more nested scenes (`--start`, `--nested`; see recipe `tiny`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch.nn import functional as F

from huggingvis.core.config import from_dict
from huggingvis.core.noise import BatchNoise
from huggingvis.data.compose import Mix
from huggingvis.data.world import World
from huggingvis.data.worldset import Mapped, WorldSet, keys_of
from huggingvis.nets.detector import Detector, DetectorConfig
from huggingvis.objectives.detection import Detection
from huggingvis.recipes.setting import Setting, precision
from huggingvis.systems.packaged import write
from huggingvis.train.ema import ConstantDecay, Ema
from huggingvis.train.fit import fit
from huggingvis.train.optim import Cosine, Optim
from huggingvis.train.run import Run
from huggingvis.train.settings import FitSettings, Validation


@dataclass(frozen=True)
class Config:
    """Numbers of the training.

    Attributes:
        size: side of the pictures in pixels.
        layouts: layouts rendered once and cycled through.
        steps: optimiser steps.
        batch: pictures a step.
        lr: peak learning rate.
        precision: bf16, fp32, or auto: the first where the device is faster in it.
        seed: of the weights and of every draw.
        nested: weight of the scenes with one thing inside another, and of those with one behind another.
        start: run folder whose weights the training starts from; empty for fresh ones.
    """

    size: int = 64
    layouts: int = 100_000
    steps: int = 3000
    batch: int = 64
    lr: float = 2e-3
    precision: str = "auto"
    seed: int = 0
    nested: float = 0.04
    start: str = ""


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
    return {**batch, "image": torch.cat([y, x[half:]])}


def train(config: Config, setting: Setting) -> Run:
    """Train the detector in `setting`'s run folder."""
    torch.manual_seed(config.seed)
    mix = replace(Mix(), inside=config.nested, behind=config.nested)
    world = World(size=config.size, split="all", seed=config.seed + 1, mix=mix)
    net = Detector(DetectorConfig(classes=len(keys_of(world))))
    if config.start:
        net.load_state_dict(Run.open(config.start).weights("detector"))
    run = setting.begin("world_judge", config)
    held = WorldSet(world, 1024, first=10_000_000)
    return fit(
        Detection(net).to(setting.device),
        Mapped(WorldSet(world, config.layouts), worsen),
        run,
        optim=Optim(config.lr, (0.9, 0.99), weight_decay=0.01, warmup=100, schedule=Cosine(config.steps, 0.02)),
        steps=config.steps,
        batch_size=config.batch,
        ema=Ema(ConstantDecay(0.998)),
        settings=FitSettings(
            seed=config.seed,
            precision=precision(config.precision, setting.device),
            validation=Validation(held, every=500, batches=4),
            progress=setting.progress,
        ),
    )


def publish(run: Run, folder: Path) -> None:
    """Write the run's averaged weights as a judge folder that `systems.judges.world.bind` reads."""
    config = from_dict(Config, run.config["config"])
    world = World(size=config.size, split="all", seed=config.seed + 1)
    net = Detector(DetectorConfig(classes=len(keys_of(world))))
    net.load_state_dict(run.weights("detector"))
    record = {
        "family": "judge",
        "name": "world",
        "size": [config.size, config.size],
        "detector": asdict(net.config),
        "keys": list(keys_of(world)),
        "training": run.config,
    }
    write(folder, record, {"detector": net}, torch.float16)
