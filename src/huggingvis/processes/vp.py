r"""Variance-preserving processes in continuous time: alpha^2 + sigma^2 = 1.

Linear beta: Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole 2020, arXiv 2011.13456, Eq. 11 and 33:

    beta(t) = beta_min + t (beta_max - beta_min)
    log alpha(t) = -t^2 (beta_max - beta_min)/4 - t beta_min/2

Cosine: Nichol, Dhariwal 2021, arXiv 2102.09672, Eq. 17, without the clipping that only tables need:

    alpha(t) = cos(a(t)) / cos(a(0)),    a(t) = (t + s)/(1 + s) pi/2

Book: chapter 4, "Processes".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from huggingvis.core.process import Process


@final
@dataclass(frozen=True)
class LinearVP(Process):
    """The VP-SDE with linear beta (Song et al. 2020). Networks are told `clock_scale * t`."""

    beta_min: float = 0.1
    beta_max: float = 20.0
    clock_scale: float = 1.0

    def _log_alpha(self, t: Tensor) -> Tensor:
        return -t * (t * (self.beta_max - self.beta_min) / 4 + self.beta_min / 2)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(self._log_alpha(t))

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt(-torch.expm1(2 * self._log_alpha(t)))

    def t_of_logsnr(self, lam: Tensor) -> Tensor:
        """From log alpha = -softplus(-lambda)/2."""
        return self.t_of_drop(F.softplus(-lam) / 2)

    def t_of_drop(self, drop: Tensor) -> Tensor:
        """Root of the quadratic -log alpha(t) = `drop`, in the form that loses no digits near t = 0."""
        half = self.beta_min / 2
        rise = self.beta_max - self.beta_min
        return 2 * drop / (half + torch.sqrt(half**2 + rise * drop))

    def derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha' = -beta alpha/2 and sigma' = beta alpha^2/(2 sigma); the latter is infinite at t = 0."""
        beta, a = self.beta_min + t * (self.beta_max - self.beta_min), self.alpha(t)
        return -beta * a / 2, beta * a**2 / (2 * self.sigma(t))

    def clock(self, t: Tensor) -> Tensor:
        return t * self.clock_scale


@final
@dataclass(frozen=True)
class CosineVP(Process):
    """The cosine schedule (Nichol & Dhariwal 2021). alpha(1) = 0 to rounding: predict v there, or start below t = 1."""

    s: float = 0.008
    clock_scale: float = 1.0

    @property
    def _start(self) -> float:
        return self.s / (1 + self.s) * math.pi / 2

    def _angle(self, t: Tensor) -> Tensor:
        return (t + self.s) * (math.pi / 2 / (1 + self.s))

    def alpha(self, t: Tensor) -> Tensor:
        return torch.cos(self._angle(t)) / math.cos(self._start)

    def sigma(self, t: Tensor) -> Tensor:
        """sigma^2 = sin(a - a0) sin(a + a0)/cos^2 a0: the difference 1 - alpha^2 without cancellation."""
        turn = t * (math.pi / 2 / (1 + self.s))
        return torch.sqrt(torch.sin(turn) * torch.sin(turn + 2 * self._start)) / math.cos(self._start)

    def t_of_logsnr(self, lam: Tensor) -> Tensor:
        """From sin(a - a0) sin(a + a0) = sin^2 a - sin^2 a0 and sigma^2 = sigmoid(-lambda)."""
        noise = torch.sigmoid(-lam) * math.cos(self._start) ** 2  # sin^2 a - sin^2 a0
        signal = torch.sigmoid(lam) * math.cos(self._start) ** 2  # cos^2 a
        sin_a = torch.sqrt(noise + math.sin(self._start) ** 2)
        sin_a0, cos_a0 = math.sin(self._start), math.cos(self._start)
        # sin(a - a0) = noise / sin(a + a0) keeps its digits where a is close to a0
        cos_a = torch.sqrt(signal)
        turn = torch.atan2(noise / (sin_a * cos_a0 + cos_a * sin_a0), cos_a * cos_a0 + sin_a * sin_a0)
        return turn * ((1 + self.s) * 2 / math.pi)

    def derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha' = -a' sin a/cos a0 and sigma' = -alpha alpha'/sigma; the latter is infinite at t = 0."""
        rate = math.pi / 2 / (1 + self.s)
        da = -rate * torch.sin(self._angle(t)) / math.cos(self._start)
        return da, -self.alpha(t) * da / self.sigma(t)

    def clock(self, t: Tensor) -> Tensor:
        return t * self.clock_scale
