"""The simplest denoiser that still makes digits: wide convolutions at one resolution, told the time once.

Every layer is convolution, layer norm over the whole map (Ba, Kiros, Hinton 2016, arXiv 1607.06450), GELU; after the
first, an embedding of the time is added to every channel. Large kernels stand in for the U-Net's coarse levels, as in
ConvMixer (Trockman & Kolter 2022, arXiv 2201.09792). Book: chapter 4, "Networks".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.core.protocols import Cond


@dataclass(frozen=True)
class IsotropicConvConfig:
    """Sizes of an `IsotropicConv`.

    Attributes:
        channels: of the picture.
        size: height and width; the layer norms have a weight per pixel, so it is fixed.
        widths: channels after each layer but the last.
        kernel: of every layer but the last, which is 3.
        frequencies: sinusoids of the time embedding.
        hidden: width of the time embedding's layers.
        clock_scale: multiplies the clock first; 1/1000 for whole numbers up to 1000.
    """

    channels: int = 1
    size: int = 28
    widths: tuple[int, ...] = (16, 32, 32, 16)
    kernel: int = 7
    frequencies: int = 16
    hidden: int = 128
    clock_scale: float = 1e-3


@final
class ClockEmbedding(nn.Module):
    """[sin w c, cos w c - 1] with w_0 = 0 and w_k = 2 pi 1.5^(k-1), then four linear layers with GELU between them."""

    frequencies: Tensor

    def __init__(self, frequencies: int, hidden: int, dim: int):
        super().__init__()
        w = 2 * math.pi * 1.5 ** torch.arange(frequencies - 1, dtype=torch.float32)
        self.register_buffer("frequencies", torch.cat([torch.zeros(1), w]))
        sizes = (2 * frequencies, hidden, hidden, hidden, dim)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, clock: Tensor) -> Tensor:
        angles = clock[:, None] * self.frequencies  # [B, F]
        h = torch.cat([angles.sin(), angles.cos() - 1], dim=1)  # [B, 2F]
        first, *rest = self.layers
        h = first(h)
        for layer in rest:
            h = layer(F.gelu(h))
        return h  # [B, dim]


@final
class ConvNormGelu(nn.Module):
    """gelu(layer norm of convolution). [B, C_in, S, S] -> [B, C_out, S, S]."""

    def __init__(self, c_in: int, c_out: int, size: int, kernel: int):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2)
        self.norm = nn.LayerNorm((c_out, size, size))

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.norm(self.conv(x)))


@final
class IsotropicConv(nn.Module):
    """x [B, C, S, S], clock [B] -> [B, C, S, S]. Unconditional."""

    def __init__(self, config: IsotropicConvConfig):
        super().__init__()
        self.config = c = config
        widths = (c.channels, *c.widths)
        self.time = ClockEmbedding(c.frequencies, c.hidden, c.widths[0])
        self.layers = nn.ModuleList(ConvNormGelu(a, b, c.size, c.kernel) for a, b in pairwise(widths))
        self.out = nn.Conv2d(c.widths[-1], c.channels, 3, padding=1)

    def forward(self, x: Tensor, clock: Tensor, cond: Cond) -> Tensor:
        emb = self.time((clock * self.config.clock_scale).to(x.dtype))  # [B, W]
        first, *rest = self.layers
        h = first(x) + emb[:, :, None, None]
        for layer in rest:
            h = layer(h)
        return self.out(h)
