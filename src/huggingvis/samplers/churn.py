r"""Churn: raise the noise level a little before a step, so that fresh noise washes out accumulated errors.

Karras, Aittala, Aila, Laine 2022, arXiv 2206.00364, Algorithm 2, lines 4-6: a level rho = sigma/alpha becomes
rho (1 + gamma). Their S_churn over N steps is gamma = min(S_churn/N, sqrt(2) - 1). Book: chapter 4, "EDM".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from huggingvis.core.noise import Noise
from huggingvis.core.process import Process


@final
@dataclass(frozen=True)
class Churn:
    """`gamma`: relative rise per step, acting for `low` <= sigma/alpha <= `high`; `spread` is their S_noise."""

    gamma: float = 0.0
    low: float = 0.0
    high: float = math.inf
    spread: float = 1.0

    def __call__(self, process: Process, x: Tensor, t: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """(x, t) raised, or as they are. The process' own end, t = 1, is never passed."""
        alpha = float(process.alpha(t))
        if self.gamma <= 0.0 or alpha == 0.0:
            return x, t
        rho = float(process.sigma(t)) / alpha
        if not self.low <= rho <= self.high:
            return x, t
        lam = torch.tensor(-2 * math.log(rho * (1 + self.gamma)), dtype=torch.float64)
        higher = process.t_of_logsnr(lam).clamp(max=1.0)
        return process.renoise(x, t, higher, self.spread * noise.draw(x)), higher
