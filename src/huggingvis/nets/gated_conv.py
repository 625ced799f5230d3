"""A gated residual network of convolutions, the one inside the couplings of a public flow of digits.

Concatenated ELU: Shang et al. 2016 (arXiv 1603.05201) on rectifiers, Salimans et al. 2017 (arXiv 1701.05517, Sec. 2.3)
for gates and ELU. Each block is x + a sigmoid(b) followed by a norm over channels (Ba et al. 2016, arXiv 1607.06450).
Book: chapter 3.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def both_signs(x: Tensor) -> Tensor:
    """[B, C, ...] -> [B, 2 C, ...]: ELU of x and of -x."""
    return torch.cat([F.elu(x), F.elu(-x)], dim=1)


@final
class ChannelNorm(nn.Module):
    """Layer norm over the channels of each pixel, [B, C, H, W]."""

    def __init__(self, channels: int, eps: float = 1e-5):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=1, keepdim=True, correction=0)
        return (x - mean) * torch.rsqrt(variance + self.eps) * self.gain + self.bias


@final
class GatedBlock(nn.Module):
    """norm(x + a sigmoid(b)), [B, C, H, W] -> the same."""

    def __init__(self, channels: int):
        super().__init__()
        self.spatial = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.pointwise = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.norm = ChannelNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.pointwise(both_signs(self.spatial(both_signs(x)))).chunk(2, dim=1)
        return self.norm(x + a * torch.sigmoid(b))


@final
class GatedConvNet(nn.Module):
    """[B, C_in, H, W] -> [B, C_out, H, W]; the last layer starts at zero."""

    def __init__(self, c_in: int, c_out: int, width: int = 32, blocks: int = 3):
        super().__init__()
        self.first = nn.Conv2d(c_in, width, 3, padding=1)
        self.blocks = nn.Sequential(*(GatedBlock(width) for _ in range(blocks)))
        self.last = nn.Conv2d(2 * width, c_out, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.last(both_signs(self.blocks(self.first(x))))
