"""What the trainings of nets that draw the world from its captions have in common: their loss, and how they are fitted.

Rectified flow on latents (Liu et al. 2022, arXiv 2209.03003), with times from a logit-normal law (Esser et al. 2024,
arXiv 2403.03206, Sec. 3.1). Book: chapter 5, "Stable Diffusion, part by part".
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn

from huggingvis.codecs.kl_latents import KLLatents
from huggingvis.core.process import Velocity
from huggingvis.core.protocols import Batches
from huggingvis.nets.unet import UNet
from huggingvis.objectives.denoise import Denoising, LogitNormal, Squares
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.recipes.setting import Setting, precision
from huggingvis.runtime.attention import for_training
from huggingvis.train.ema import ConstantDecay, Ema
from huggingvis.train.fit import fit
from huggingvis.train.optim import Cosine, Optim
from huggingvis.train.run import Run
from huggingvis.train.settings import FitSettings, Validation


class Numbers(Protocol):
    """Those of a training that are read here."""

    @property
    def steps(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def lr(self) -> float: ...
    @property
    def ema(self) -> float: ...
    @property
    def precision(self) -> str: ...
    @property
    def seed(self) -> int: ...


def denoising(net: UNet, condition: nn.Module, codec: KLLatents, importance: float) -> Denoising:
    """The loss of `net`, in which a latent channel of deviation d counts as d to the power `importance`."""
    return Denoising(
        net,
        RectifiedFlow(),
        Velocity(),
        LogitNormal(0.6, 1.2),  # the text decides at t > 0.8: below it the noisy latents already show what stands where
        condition=condition,
        error=Squares(codec.std.cpu() ** importance),
    )


def fitted(
    objective: Denoising, data: Batches, run: Run, config: Numbers, setting: Setting, held: Validation, warmup: int
) -> Run:
    """The run, trained on `data` by Muon and AdamW with a cosine of `warmup` steps; `held`: what it is validated on."""
    asked = precision(config.precision, setting.device)
    with for_training(setting.device, asked.autocast or torch.float32):
        return fit(
            objective.to(setting.device),
            data,
            run,
            optim=Optim(config.lr, (0.9, 0.99), warmup=warmup, schedule=Cosine(config.steps, 0.01), muon=True),
            steps=config.steps,
            batch_size=config.batch,
            ema=Ema(ConstantDecay(config.ema)),
            settings=FitSettings(seed=config.seed, precision=asked, validation=held, progress=setting.progress),
        )
