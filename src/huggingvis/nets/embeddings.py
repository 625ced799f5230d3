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


def coordinates(height: int, width: int, octaves: int, device: torch.device | None = None) -> Tensor:
    """Where each place of a plane lies: sin and cos of pi 2^k y and of pi 2^k x, k = 0..octaves-1, [4 octaves, H, W].

    y and x are those of the places' middles, from -1 to 1 over the whole plane, whatever its size. Convolutions do not
    know them: all they see of a place is how near the border is (Liu et al. 2018, arXiv 1807.03247).
    """
    y, x = ((2 * torch.arange(n, device=device) + 1) / n - 1 for n in (height, width))  # [H], [W]
    w = torch.pi * 2.0 ** torch.arange(octaves, device=device)
    rows, columns = (w[:, None] * p for p in (y, x))  # [octaves, H], [octaves, W]
    down = torch.cat([rows.sin(), rows.cos()])[:, :, None].expand(-1, -1, width)  # [2 octaves, H, W]
    across = torch.cat([columns.sin(), columns.cos()])[:, None, :].expand(-1, height, -1)
    return torch.cat([down, across])


@final
class TimeEmbedding(nn.Module):
    """Sinusoid of the clock, then Linear-SiLU-Linear. `scale` multiplies it first (1000 for clocks in [0, 1])."""

    def __init__(self, sin_dim: int, dim: int, scale: float = 1.0, shift: float = 0.0):
        super().__init__()
        self.sin_dim, self.scale, self.shift = sin_dim, scale, shift
        self.fc1 = nn.Linear(sin_dim, dim)
        self.fc2 = nn.Linear(dim, dim)

    def forward(self, clock: Tensor) -> Tensor:
        h = sinusoid(clock * self.scale, self.sin_dim, shift=self.shift).to(self.fc1.weight.dtype)  # [B, sin_dim]
        return self.fc2(nn.functional.silu(self.fc1(h)))  # [B, dim]
