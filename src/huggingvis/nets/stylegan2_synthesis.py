"""Synthesis network of StyleGAN2: modulated convolutions, and pictures summed up over the resolutions.

Karras et al. 2019 (arXiv 1912.04958): styles modulate kernels instead of normalising maps (Sec. 2, fig. 2d), noise and
bias come after the demodulated convolution, and each resolution adds its own RGB to the enlarged picture (Sec. 4.1,
fig. 7b). The names of its weights are those of the official networks but for their grouping. Book: chapter 2.
"""

from __future__ import annotations

import math
from typing import cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.nets.equalised import EqualLinear
from huggingvis.nets.layer_noise import LayerNoise
from huggingvis.nets.modulated_conv import modulated_conv2d, modulated_upconv2d
from huggingvis.nets.resampling import taps, upsample2d
from huggingvis.nets.stylegan import SQRT2, StyleGANSizes


def clamped(x: Tensor, limit: float | None) -> Tensor:
    """x cut to [-limit, limit]; None: as it is."""
    return x if limit is None else x.clamp(-limit, limit)


@final
class StyledConv(nn.Module):
    """3x3 modulated convolution, noise, bias, leaky ReLU. x [B, I, H, W], w [B, D] -> [B, O, side, side]; H is side, or
    half of it where the layer enlarges."""

    taps: Tensor
    noise_const: Tensor

    def __init__(self, c_in: int, c_out: int, side: int, sizes: StyleGANSizes, enlarges: bool = False):
        super().__init__()
        self.affine = EqualLinear(sizes.w_dim, c_in, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(c_out, c_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(c_out))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.randn(side, side))
        self.register_buffer("taps", taps(), persistent=False)
        self.enlarges, self.clamp = enlarges, sizes.clamp

    def forward(self, x: Tensor, w: Tensor, noise: LayerNoise) -> Tensor:
        styles = self.affine(w)  # [B, I]
        if self.enlarges:
            x = modulated_upconv2d(x, self.weight, styles, self.taps)
        else:
            x = modulated_conv2d(x, self.weight, styles)  # [B, O, side, side]
        drawn = noise(self.noise_const, len(x))
        if drawn is not None:
            x = x + (drawn * self.noise_strength).to(x.dtype)
        x = F.leaky_relu(x + self.bias.to(x.dtype)[:, None, None], 0.2) * SQRT2
        return clamped(x, self.clamp)


@final
class ToRGB(nn.Module):
    """1x1 modulated convolution without demodulation: x [B, I, H, W], w [B, D] -> [B, C, H, W] as wide as its bias."""

    def __init__(self, c_in: int, sizes: StyleGANSizes):
        super().__init__()
        self.affine = EqualLinear(sizes.w_dim, c_in, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(sizes.channels, c_in, 1, 1))
        self.bias = nn.Parameter(torch.zeros(sizes.channels))
        self.scale, self.clamp = 1 / math.sqrt(c_in), sizes.clamp

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        y = modulated_conv2d(x, self.weight, self.affine(w) * self.scale, demodulate=False)
        return clamped(y.to(self.bias.dtype) + self.bias[:, None, None], self.clamp)


@final
class StyleGAN2Block(nn.Module):
    """One resolution: two styled convolutions (one at 4 px) and its share of the picture."""

    taps: Tensor

    def __init__(self, level: int, sizes: StyleGANSizes):
        super().__init__()
        width, side = sizes.widths[level], sizes.sides[level]
        if level == 0:
            self.const = nn.Parameter(torch.randn(width, side, side))
        else:
            self.conv0 = StyledConv(sizes.widths[level - 1], width, side, sizes, enlarges=True)
        self.conv1 = StyledConv(width, width, side, sizes)
        self.torgb = ToRGB(width, sizes)
        self.register_buffer("taps", taps(), persistent=False)
        self.first = level == 0

    @property
    def convs(self) -> int:
        """Styled convolutions, each with a style."""
        return 1 if self.first else 2

    def forward(self, x: Tensor | None, rgb: Tensor | None, ws: Tensor, noise: LayerNoise) -> tuple[Tensor, Tensor]:
        """Features and picture of the resolution below, styles [B, convs + 1, D] -> those of this one."""
        if x is None:
            x = self.const.to(ws.dtype)[None].expand(len(ws), -1, -1, -1)
        else:
            x = self.conv0(x, ws[:, 0], noise)
        x = cast(Tensor, self.conv1(x, ws[:, self.convs - 1], noise))  # [B, width, side, side]
        own = cast(Tensor, self.torgb(x, ws[:, self.convs]))  # [B, C, side, side]
        return x, own if rgb is None else upsample2d(rgb, self.taps) + own


@final
class StyleGAN2Synthesis(nn.Module):
    """Styles [B, L, D] -> pictures [B, C, H, W], with L = 2 log2(H) - 2.

    A resolution's picture is modulated with the style of the next resolution's first convolution.
    """

    def __init__(self, sizes: StyleGANSizes):
        super().__init__()
        self.blocks = nn.ModuleDict({str(s): StyleGAN2Block(i, sizes) for i, s in enumerate(sizes.sides)})
        self.layers = 2 * len(sizes.sides)

    def forward(self, ws: Tensor, noise: LayerNoise) -> Tensor:
        x: Tensor | None = None
        rgb: Tensor | None = None
        at = 0
        for block in self.blocks.values():
            assert isinstance(block, StyleGAN2Block)
            x, rgb = block(x, rgb, ws[:, at : at + block.convs + 1], noise)
            at += block.convs
        assert rgb is not None
        return rgb
