"""Generator and critic that grow: from a few pixels, one resolution after another, each faded in.

Karras, Aila, Laine & Lehtinen 2017 (arXiv 1710.10196): growing and fading (Sec. 2, Fig. 2), minibatch deviation
(Sec. 3), equalised learning rate and pixel normalisation (Sec. 4), layers of Table 2. How far a net has grown is an
argument of `forward`, so the nets themselves hold weights only. Book: chapter 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.core.errors import UsageError
from huggingvis.nets.equalised import EqualConv2d, EqualLinear

SQRT2 = math.sqrt(2.0)
_SMALLEST, _LARGEST = 4, 7  # side of the first resolution, so that 28 = 7 2^2 grows as well as 32 = 4 2^3


@dataclass(frozen=True)
class Growth:
    """How far the nets have grown: resolution number `stage` (0 is the coarsest) counts by the share `alpha` in [0, 1],
    the one before it by the rest."""

    stage: int
    alpha: float = 1.0


def stages_of(size: int) -> int:
    """How many resolutions lead to `size` pixels. Raises `UsageError` for a size that doubling does not reach."""
    stages = 1
    while size % 2 == 0 and size > _LARGEST:
        size, stages = size // 2, stages + 1
    if not _SMALLEST <= size <= _LARGEST:
        whole = size * 2 ** (stages - 1)
        near = sorted((n * 2**k for n in range(4, 8) for k in range(12)), key=lambda n: abs(n - whole))[:2]
        raise UsageError(
            f"Growing doubles a picture of 4 to 7 pixels some times over, which never gives {whole} pixels. "
            f"Ask for --size {min(near)} or {max(near)}."
        )
    return stages


def pixel_norm(x: Tensor) -> Tensor:
    """Each pixel's vector of channels brought to mean square 1 (Sec. 4.2). x [B, C, ...]."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide * torch.rsqrt(wide.square().mean(1, keepdim=True) + 1e-8)).to(x.dtype)


def minibatch_deviation(x: Tensor, group: int | None = 4) -> Tensor:
    """x [B, C, H, W] with one more channel: how much the pictures of its group differ, one number a group (Sec. 3).

    `group`: pictures of a group, or the next smaller number that divides the batch; None: the whole batch is one.
    """
    most = len(x) if group is None else min(group, len(x))
    size = next(g for g in range(most, 0, -1) if len(x) % g == 0)
    grouped = x.to(torch.promote_types(x.dtype, torch.float32)).unflatten(0, (size, -1))  # [G, M, C, H, W]
    variance = grouped.var(0, correction=0)  # [M, C, H, W]
    mean = (variance + 1e-8).sqrt().mean((1, 2, 3)).to(x.dtype)  # [M]
    channel = mean.repeat(size)[:, None, None, None].expand(-1, 1, *x.shape[2:])  # [B, 1, H, W]
    return torch.cat([x, channel], dim=1)


def upsampled(x: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, C, 2H, 2W], nearest neighbour."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def _conv(c_in: int, c_out: int) -> EqualConv2d:
    return EqualConv2d(c_in, c_out, 3, padding=1, gain=SQRT2)


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)


@final
class GeneratorBlock(nn.Module):
    """Double the map, then two convolutions: [B, C_in, H, W] -> [B, C_out, 2H, 2W]."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.conv1, self.conv2 = _conv(c_in, c_out), _conv(c_out, c_out)

    def forward(self, x: Tensor) -> Tensor:
        h = pixel_norm(_leaky(self.conv1(upsampled(x))))
        return pixel_norm(_leaky(self.conv2(h)))


@final
class CriticBlock(nn.Module):
    """Two convolutions, then halve the map: [B, C_in, 2H, 2W] -> [B, C_out, H, W]."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.conv1, self.conv2 = _conv(c_in, c_in), _conv(c_in, c_out)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(_leaky(self.conv2(_leaky(self.conv1(x)))), 2)


@final
class ProgressiveGenerator(nn.Module):
    """z [B, D] -> picture [B, C, h, w] of the resolution grown to, unbounded.

    `widths`: channels of each resolution, coarsest first; the last is that of `shape` [C, H, W].
    """

    def __init__(self, shape: tuple[int, int, int], widths: tuple[int, ...], latent_dim: int = 512):
        super().__init__()
        side = shape[1] // 2 ** (len(widths) - 1)
        self.grid = (widths[0], side, side)
        # the paper's first layer is a convolution over the padded latent: fan_in counts its whole 4x4 kernel
        self.first = EqualLinear(latent_dim, widths[0] * side * side, gain=SQRT2 / side)
        self.second = _conv(widths[0], widths[0])
        self.blocks = nn.ModuleList(GeneratorBlock(a, b) for a, b in pairwise(widths))
        self.to_rgb = nn.ModuleList(EqualConv2d(w, shape[0], 1, padding=0) for w in widths)

    def forward(self, z: Tensor, growth: Growth) -> Tensor:
        h = self.first(pixel_norm(z)).unflatten(1, self.grid)
        h = pixel_norm(_leaky(self.second(pixel_norm(_leaky(h)))))  # [B, C_0, 4, 4]
        coarse = h
        for block in self.blocks[: growth.stage]:
            coarse, h = h, block(h)
        picture = self.to_rgb[growth.stage](h)
        if growth.stage == 0 or growth.alpha == 1:
            return picture
        return torch.lerp(upsampled(self.to_rgb[growth.stage - 1](coarse)), picture, growth.alpha)


@final
class ProgressiveCritic(nn.Module):
    """Picture [B, C, h, w] of the resolution grown to -> score [B]. `widths` as in the generator."""

    def __init__(self, shape: tuple[int, int, int], widths: tuple[int, ...]):
        super().__init__()
        side = shape[1] // 2 ** (len(widths) - 1)
        self.from_rgb = nn.ModuleList(EqualConv2d(shape[0], w, 1, padding=0, gain=SQRT2) for w in widths)
        self.blocks = nn.ModuleList(CriticBlock(b, a) for a, b in pairwise(widths))
        self.conv = _conv(widths[0] + 1, widths[0])
        self.hidden = EqualLinear(widths[0] * side * side, widths[0], gain=SQRT2)
        self.out = EqualLinear(widths[0], 1)

    def forward(self, x: Tensor, growth: Growth) -> Tensor:
        h = _leaky(self.from_rgb[growth.stage](x))
        if growth.stage > 0:
            h = self.blocks[growth.stage - 1](h)
            if growth.alpha < 1:
                h = torch.lerp(_leaky(self.from_rgb[growth.stage - 1](F.avg_pool2d(x, 2))), h, growth.alpha)
        for block in reversed(self.blocks[: max(growth.stage - 1, 0)]):
            h = block(h)
        h = _leaky(self.conv(minibatch_deviation(h))).flatten(1)  # [B, C_0 4 4]
        return self.out(_leaky(self.hidden(h))).flatten()
