"""The autoencoder of latent diffusion on the synthetic world.

Rombach et al. 2022 (arXiv 2112.10752), section 3.1: reconstruction, a little KL, own-feature perception, patch
adversary. 64x64 pictures become 8x8 latents. Book: chapter 5.

    hvis train latent_autoencoder --run runs/autoencoder
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from huggingvis.data.world import World
from huggingvis.data.worldset import Mapped, WorldSet
from huggingvis.nets.autoencoder_kl import AutoencoderConfig, AutoencoderKL
from huggingvis.nets.patch_discriminator import PatchDiscriminator
from huggingvis.objectives.latent_autoencoder import LatentAutoencoder, Weights
from huggingvis.recipes.setting import Setting, precision
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
        latent_channels: channels of z.
        channels: width of each level after folding pixels 4x4 into channels.
        steps: optimiser steps.
        batch: pictures a step.
        lr: peak learning rate.
        adversary_from: share of the steps after which the patch adversary joins.
        precision: bf16, fp32, or auto: the first where the device is faster in it.
        seed: of the weights and of every draw.
        latent_noise: train the decoder alone, on latents off by this share of their deviation; none: both halves.
        focus: how much more a pixel inside a thing's box counts than one of the background.
        start: run folder whose weights the training starts from, as far as shapes agree; empty for fresh ones.
    """

    size: int = 64
    layouts: int = 60_000
    latent_channels: int = 16
    channels: tuple[int, ...] = (96, 128)
    steps: int = 3000
    batch: int = 32
    lr: float = 1e-3
    adversary_from: float = 0.75
    precision: str = "auto"
    seed: int = 0
    latent_noise: float | None = None
    focus: float = 4.0
    start: str = ""


def network(config: Config) -> AutoencoderKL:
    """The autoencoder with fresh weights."""
    sizes = AutoencoderConfig(
        latent_channels=config.latent_channels,
        channels=config.channels,
        blocks=1,
        extra=1,
        groups=8,
        middle_attention=False,
        quant_conv=False,
        patch=4,
    )
    return AutoencoderKL(sizes)


def focused(batch: dict, index: int, focus: float) -> dict:
    """With `weight` [B, 1, S, S]: `focus` inside the box of a thing, 1 elsewhere."""
    size = batch["image"].shape[-1]
    at = (torch.arange(size) + 0.5) / size
    box = batch["boxes"][..., None]  # [B, M, 4, 1]
    across = (at >= box[:, :, 0]) & (at <= box[:, :, 2])  # [B, M, S]
    down = (at >= box[:, :, 1]) & (at <= box[:, :, 3])
    inside = (down[..., :, None] & across[..., None, :]).any(1, keepdim=True)  # [B, 1, S, S]
    return {**batch, "weight": torch.where(inside, focus, 1.0)}


def _start_from(net: AutoencoderKL, weights: dict[str, Tensor]) -> None:
    """Take over each tensor; where only the latent channels differ, the part that both have.

    New channels begin sure of themselves, with log-variance -6.
    """
    bias = net.encoder.conv_out.bias
    assert bias is not None  # the encoder makes it with one
    with torch.no_grad():
        bias.chunk(2)[1].fill_(-6.0)
        for name, mine in net.state_dict().items():
            halves = 2 if name.startswith("encoder.conv_out") else 1  # means, then log-variances
            for a, b in zip(mine.chunk(halves), weights[name].chunk(halves), strict=True):
                part = tuple(slice(0, min(m, n)) for m, n in zip(a.shape, b.shape, strict=True))
                a[part] = b[part]


def train(config: Config, setting: Setting) -> Run:
    """Train the autoencoder in `setting`'s run folder."""
    torch.manual_seed(config.seed)
    world = World(size=config.size, split="train", seed=config.seed)
    net = network(config)
    if config.start:
        _start_from(net, Run.open(config.start).weights("autoencoder"))
    weights = Weights(adversary_from=int(config.adversary_from * config.steps), latent_noise=config.latent_noise)
    objective = LatentAutoencoder(net, PatchDiscriminator(), weights)
    run = setting.begin("latent_autoencoder", config)
    held = WorldSet(World(size=config.size, split="test", seed=config.seed), 256)
    return fit(
        objective.to(setting.device),
        Mapped(WorldSet(world, config.layouts), partial(focused, focus=config.focus)),
        run,
        optim=Optim(lr=config.lr, betas=(0.9, 0.99), warmup=100, schedule=Cosine(config.steps, 0.02)),
        steps=config.steps,
        batch_size=config.batch,
        ema=Ema(ConstantDecay(0.999), nets=("autoencoder",)),
        settings=FitSettings(
            seed=config.seed,
            precision=precision(config.precision, setting.device),
            validation=Validation(held, every=500, batches=4),
            progress=setting.progress,
        ),
    )
