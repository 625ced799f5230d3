r"""Densities of latents, factorised over their numbers: standard normal and standard logistic.

NICE (Dinh, Krueger & Bengio 2014, arXiv 1410.8516), Sec. 3.4, trains digits under the logistic one:
log p(h) = -log(1 + e^h) - log(1 + e^-h). Book: chapter 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor
from torch.nn import functional as F

from huggingvis.core.noise import Noise
from huggingvis.core.protocols import Cond


class Prior(Protocol):
    """The density that latents [B, D], or [..., D] without a condition, are compared with."""

    def log_prob(self, z: Tensor, cond: Cond | None = None) -> Tensor:
        """Nats, [B]; of the class that `cond` names, for a prior that knows classes."""
        ...

    def draw(self, like: Tensor, noise: Noise, cond: Cond | None = None, temperature: float = 1.0) -> Tensor:
        """Fresh latents [B, D] in the shape, dtype and device of `like`, `temperature` times as far from the middle."""
        ...


@final
@dataclass(frozen=True)
class StandardNormal:
    """N(0, I)."""

    def log_prob(self, z: Tensor, cond: Cond | None = None) -> Tensor:
        return -0.5 * (z.square().sum(-1) + z.shape[-1] * math.log(2 * math.pi))

    def draw(self, like: Tensor, noise: Noise, cond: Cond | None = None, temperature: float = 1.0) -> Tensor:
        return temperature * noise.draw(like)


@final
@dataclass(frozen=True)
class StandardLogistic:
    """Density e^-z / (1 + e^-z)^2 for each number; its deviation is pi / sqrt 3."""

    def log_prob(self, z: Tensor, cond: Cond | None = None) -> Tensor:
        return -(F.softplus(z) + F.softplus(-z)).sum(-1)

    def draw(self, like: Tensor, noise: Noise, cond: Cond | None = None, temperature: float = 1.0) -> Tensor:
        eps = noise.draw(like)
        return temperature * (torch.special.log_ndtr(eps) - torch.special.log_ndtr(-eps))  # the logit of U = Phi(eps)
