"""What the trainings of the first diffusion models share: laws that are known, in place of pictures, and the bound.

Points and words are no pictures, so they are no training data by name (`recipes.sources`): the recipe owns its law,
draws from it anew for every batch, and knows the truth to which the bound is compared. Book: chapter 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor

from huggingvis.core.belief import Belief
from huggingvis.core.protocols import Batch, Bound, Denoiser
from huggingvis.data.draws import stable_hash
from huggingvis.objectives.bound_training import BoundTraining
from huggingvis.objectives.ledger import Ledger
from huggingvis.recipes.setting import Setting
from huggingvis.train.ema import ConstantDecay, Ema
from huggingvis.train.fit import fit
from huggingvis.train.optim import Cosine, Optim
from huggingvis.train.run import Run
from huggingvis.train.settings import FitSettings, Validation


@dataclass(frozen=True)
class ChainTraining:
    """Numbers of a training on the bound.

    Attributes:
        T: steps of the chain.
        width: units of the network's hidden layers.
        depth: hidden layers.
        steps: optimiser steps.
        batch: data a step.
        lr: peak learning rate; it falls to 0 as a cosine.
        ema: decay of the averaged weights.
        validate_every: steps between held-out bounds.
        seed: of the weights and of every draw.
    """

    T: int = 40
    width: int = 64
    depth: int = 3
    steps: int = 3000
    batch: int = 512
    lr: float = 3e-3
    ema: float = 0.998
    validate_every: int = 500
    seed: int = 0


class Law(Protocol):
    """Data that can be drawn without end."""

    def sample(self, n: int, generator: torch.Generator) -> Tensor: ...


@final
@dataclass(frozen=True)
class Drawn:
    """`Batches` of `x0`: batch number i of a seed is always the same. Real numbers come as float32."""

    law: Law
    seed: int

    def batch(self, index: int, size: int) -> Batch:
        x = self.law.sample(size, torch.Generator().manual_seed(stable_hash(self.seed, index) >> 1))
        return {"x0": x.float() if x.is_floating_point() else x}


def fit_chain(config: ChainTraining, setting: Setting, recipe: str, objective: BoundTraining, law: Law) -> Run:
    """Train `objective` on draws of `law` in `setting`'s run folder by the recipe called `recipe`."""
    held_out = Validation(Drawn(law, -1), every=config.validate_every, batches=4)
    return fit(
        objective.to(setting.device),
        Drawn(law, config.seed),
        setting.begin(recipe, config),
        optim=Optim(config.lr, (0.9, 0.99), warmup=100, schedule=Cosine(config.steps)),
        steps=config.steps,
        batch_size=config.batch,
        ema=Ema(ConstantDecay(config.ema)),
        settings=FitSettings(seed=config.seed, validation=held_out, progress=setting.progress),
    )


def bound_to(denoise: Denoiser) -> Bound:
    """The denoiser without a condition."""

    def ask(x: Tensor, t: Tensor) -> Belief:
        return denoise(x, t, {})

    return ask


def mean_bits(values: Tensor) -> dict[str, float]:
    """Nats [N] as bits: their mean and its standard error."""
    bits = values.double() / math.log(2)
    return {"mean": float(bits.mean()), "standard_error": float(bits.std() / math.sqrt(len(bits)))}


def total(ledger: Ledger) -> Tensor:
    """The bound on each datum, nats [N]."""
    return torch.stack([part.double() for part in ledger.values()]).sum(0)


def table(rows: dict[str, dict[str, float]]) -> str:
    """The rows for people."""
    return "\n".join(f"{name:<24} {row['mean']:.4f} ± {row['standard_error']:.1g}" for name, row in rows.items())
