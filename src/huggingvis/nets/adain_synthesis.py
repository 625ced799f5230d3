"""Synthesis network of the first StyleGAN: adaptive instance normalisation after every convolution.

Karras, Laine & Aila 2018 (arXiv 1812.04948), Sec. 2 and fig. 1b. A learnt constant starts the picture; each layer adds
noise and bias, passes a leaky ReLU and takes its style y by

    AdaIN(x_i, y) = y_s,i (x_i - mean(x_i)) / std(x_i) + y_b,i                             Eq. 1

Resolutions double by nearest neighbour and a [1 2 1] blur. The paper grows its networks as Karras et al. 2017 (arXiv
1710.10196) do; here all resolutions train from the beginning, as StyleGAN2 showed to suffice. Book: chapter 2.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.nets.equalised import EqualConv2d, EqualLinear
from huggingvis.nets.layer_noise import LayerNoise
from huggingvis.nets.resampling import blur2d, taps
from huggingvis.nets.stylegan import SQRT2, StyleGANSizes


def adain(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Eq. 1. x [B, C, H, W], scale and shift [B, C]."""
    return F.instance_norm(x, eps=1e-8) * scale[:, :, None, None] + shift[:, :, None, None]


@final
class StyleEpilogue(nn.Module):
    """What follows each convolution: noise, bias, leaky ReLU, AdaIN. x [B, C, H, W], w [B, D] -> [B, C, H, W]."""

    noise_const: Tensor

    def __init__(self, width: int, side: int, w_dim: int):
        super().__init__()
        self.noise_strength = nn.Parameter(torch.zeros(width))
        self.register_buffer("noise_const", torch.randn(side, side))
        self.bias = nn.Parameter(torch.zeros(width))
        self.affine = EqualLinear(w_dim, 2 * width)

    def forward(self, x: Tensor, w: Tensor, noise: LayerNoise) -> Tensor:
        drawn = noise(self.noise_const, len(x))
        if drawn is not None:
            x = x + (drawn * self.noise_strength[:, None, None]).to(x.dtype)
        x = F.leaky_relu(x + self.bias.to(x.dtype)[:, None, None], 0.2)
        scale, shift = self.affine(w).to(x.dtype).chunk(2, dim=1)  # [B, C] each
        return adain(x, 1 + scale, shift)


@final
class AdaINBlock(nn.Module):
    """One resolution with its two styles: x [B, C_in, H, W] of the one below (or the constant), ws [B, 2, D]."""

    taps: Tensor

    def __init__(self, level: int, sizes: StyleGANSizes):
        super().__init__()
        width, side = sizes.widths[level], sizes.sides[level]
        below = sizes.widths[level - 1]
        self.conv0 = EqualConv2d(below, width, 3, padding=1, bias=False, gain=SQRT2) if level else None
        self.conv1 = EqualConv2d(width, width, 3, padding=1, bias=False, gain=SQRT2)
        self.epilogue0 = StyleEpilogue(width, side, sizes.w_dim)
        self.epilogue1 = StyleEpilogue(width, side, sizes.w_dim)
        self.register_buffer("taps", taps((1.0, 2.0, 1.0)), persistent=False)

    def forward(self, x: Tensor, ws: Tensor, noise: LayerNoise) -> Tensor:
        if self.conv0 is not None:
            x = blur2d(self.conv0(F.interpolate(x, scale_factor=2.0, mode="nearest")), self.taps)
        x = self.epilogue0(x, ws[:, 0], noise)
        return self.epilogue1(self.conv1(x), ws[:, 1], noise)


@final
class AdaINSynthesis(nn.Module):
    """Styles [B, L, D] -> pictures [B, C, H, W], with L = 2 log2(H) - 2."""

    def __init__(self, sizes: StyleGANSizes):
        super().__init__()
        self.const = nn.Parameter(torch.randn(sizes.widths[0], 4, 4))
        self.blocks = nn.ModuleList(AdaINBlock(i, sizes) for i in range(len(sizes.sides)))
        self.torgb = EqualConv2d(sizes.widths[-1], sizes.channels, 1, padding=0)
        self.layers = 2 * len(sizes.sides)

    def forward(self, ws: Tensor, noise: LayerNoise) -> Tensor:
        x = self.const.to(ws.dtype)[None].expand(len(ws), -1, -1, -1)
        for i, block in enumerate(self.blocks):
            x = block(x, ws[:, 2 * i : 2 * i + 2], noise)
        return self.torgb(x)  # [B, C, H, W]
