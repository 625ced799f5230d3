"""Embeddings of time and position.

Sinusoidal features: Vaswani et al. 2017 (arXiv 1706.03762), section 3.5, as used for time by Ho et al. 2020
(arXiv 2006.11239). Book: chapter 4, "Networks".
"""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn


def sinusoid(t: Tensor, dim: int, max_period: float = 10_000.0, shift: float = 0.0) -> Tensor:
    """[cos(w t), sin(w t)] with `dim/2` frequencies w from 1 down to 1/max_period; `t` [B] -> [B, dim] float32.

    `shift` 0 puts the last frequency one step above 1/max_period, 1 puts it exactly there; both are in use.
    """
    half = dim // 2
    w = torch.exp(-math.log(max_period) * torch.arange(half, device=t.device, dtype=torch.float32) / (half - shift))
    angles = t.float()[:, None] * w  # [B, dim/2]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


@final
class TimeEmbedding(nn.Module):
    """Sinusoid of the clock, then Linear-SiLU-Linear. `scale` multiplies it first (1000 for clocks in [0, 1]).

    `guidance_dim` > 0: for a net distilled from guided steps, which is told the scale g it imitates, 1 being none. The
    sinusoid of 1000 (g - 1) goes through a linear layer and is added to the clock's (Meng et al. 2022, arXiv
    2210.03142; Luo et al. 2023, arXiv 2310.04378, section 4.3).
    """

    def __init__(self, sin_dim: int, dim: int, scale: float = 1.0, shift: float = 0.0, *, guidance_dim: int = 0):
        super().__init__()
        self.sin_dim, self.scale, self.shift = sin_dim, scale, shift
        self.fc1 = nn.Linear(sin_dim, dim)
        self.fc2 = nn.Linear(dim, dim)
        self.guidance = nn.Linear(guidance_dim, sin_dim, bias=False) if guidance_dim else None

    def forward(self, clock: Tensor, guidance: Tensor | None = None) -> Tensor:
        h = sinusoid(clock * self.scale, self.sin_dim, shift=self.shift).to(self.fc1.weight.dtype)  # [B, sin_dim]
        if self.guidance is not None and guidance is not None:
            wave = sinusoid(1000.0 * (guidance.float() - 1.0), self.guidance.in_features, shift=1.0)
            h = h + self.guidance(wave.to(h.dtype))
        return self.fc2(nn.functional.silu(self.fc1(h)))  # [B, dim]
