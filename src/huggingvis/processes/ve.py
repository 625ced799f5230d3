r"""Variance-exploding processes: the signal is never scaled, alpha = 1.

Geometric: Song et al. 2020, arXiv 2011.13456, Eq. 30-31. The SDE with diffusion sigma_min r^t sqrt(2 log r), where
r = sigma_max/sigma_min, has the marginal below; it is exactly clean at t = 0 and geometric soon after.

    sigma(t) = sigma_min sqrt(r^(2t) - 1)

Linear: Karras, Aittala, Aila, Laine 2022, arXiv 2206.00364, Eq. 5 with s(t) = 1: noise level is time itself, here
scaled so that t = 1 is sigma_max.

Book: chapter 4, "Processes".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from huggingvis.core.process import Process


@final
@dataclass(frozen=True)
class GeometricVE(Process):
    """The VE-SDE (Song et al. 2020)."""

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    @property
    def _log_ratio(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma_min * torch.sqrt(torch.expm1(2 * t * self._log_ratio))

    def t_of_logsnr(self, lam: Tensor) -> Tensor:
        """From sigma^2 = exp(-lambda)."""
        return torch.log1p(torch.exp(-lam) / self.sigma_min**2) / (2 * self._log_ratio)

    def derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """sigma' = sigma_min^2 r^(2t) log r/sigma, infinite at t = 0."""
        growth = self.sigma_min**2 * torch.exp(2 * t * self._log_ratio) * self._log_ratio
        return torch.zeros_like(t), growth / self.sigma(t)


@final
@dataclass(frozen=True)
class LinearVE(Process):
    """sigma = sigma_max t (Karras et al. 2022). Networks are told c_noise = log(sigma)/4, their Table 1."""

    sigma_max: float = 80.0

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma_max * t

    def t_of_logsnr(self, lam: Tensor) -> Tensor:
        return torch.exp(-lam / 2) / self.sigma_max

    def derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(t), torch.full_like(t, self.sigma_max)

    def clock(self, t: Tensor) -> Tensor:
        return torch.log(self.sigma(t)) / 4
