"""Discriminator of StyleGAN2: residual blocks that halve the picture, and the spread of the batch as one more feature.

Karras et al. 2019 (arXiv 1912.04958), Sec. 4.1 and fig. 7c; minibatch standard deviation of Karras et al. 2017 (arXiv
1710.10196), Sec. 3; class projection of Miyato & Koyama 2018 (arXiv 1802.05637) as in Karras et al. 2020 (arXiv
2006.06676, App. D). Without the residual branch it is the discriminator of the first StyleGAN. Book: chapter 2.
"""

from __future__ import annotations

import math
from typing import cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.nets.equalised import EqualConv2d, EqualLinear
from huggingvis.nets.pggan import minibatch_deviation
from huggingvis.nets.resampling import downsample2d, taps, upfirdn2d
from huggingvis.nets.stylegan import SQRT2, StyleGANSizes, StyleMapping
from huggingvis.nets.stylegan2_synthesis import clamped


@final
class HalvingConv(nn.Module):
    """Low-pass filter, then a convolution of stride 2 at an equalised learning rate: [B, I, H, W] -> [B, O, H/2, W/2].

    A 1x1 kernel is applied after halving, which is the same and cheaper.
    """

    taps: Tensor

    def __init__(self, c_in: int, c_out: int, kernel: int, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(c_out)) if bias else None
        self.register_buffer("taps", taps(), persistent=False)
        self.scale = 1 / math.sqrt(c_in * kernel**2)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.scale
        if weight.shape[2] == 1:
            return F.conv2d(downsample2d(x, self.taps), weight, self.bias)
        pad = 1 + weight.shape[2] // 2
        return F.conv2d(upfirdn2d(x, self.taps, padding=(pad, pad)), weight, self.bias, stride=2)


@final
class StyleDiscriminatorBlock(nn.Module):
    """[B, I, H, W] -> [B, O, H / 2, W / 2]; the first one reads the picture itself."""

    def __init__(self, level: int, sizes: StyleGANSizes, residual: bool):
        super().__init__()
        width, below = sizes.widths[level], sizes.widths[level - 1]
        first = level == len(sizes.widths) - 1
        self.fromrgb = EqualConv2d(sizes.channels, width, 1, padding=0) if first else None
        self.conv0 = EqualConv2d(width, width, 3, padding=1)
        self.conv1 = HalvingConv(width, below, 3)
        self.skip = HalvingConv(width, below, 1, bias=False) if residual else None
        self.clamp = sizes.clamp

    def forward(self, x: Tensor) -> Tensor:
        if self.fromrgb is not None:
            x = _active(self.fromrgb(x), self.clamp)
        y = _active(self.conv1(_active(self.conv0(x), self.clamp)), self.clamp, 1.0 if self.skip is None else 0.5**0.5)
        return y if self.skip is None else y + self.skip(x) * 0.5**0.5


def _active(x: Tensor, clamp: float | None = None, gain: float = 1.0) -> Tensor:
    """Leaky ReLU that keeps the variance, times `gain`; the clamp is scaled with it."""
    return clamped(F.leaky_relu(x, 0.2) * (SQRT2 * gain), None if clamp is None else clamp * gain)


@final
class StyleDiscriminatorHead(nn.Module):
    """[B, width, 4, 4] -> one logit a picture, or a vector to be projected on a class: [B, out]."""

    def __init__(self, width: int, out: int, group: int | None, clamp: float | None):
        super().__init__()
        self.conv = EqualConv2d(width + 1, width, 3, padding=1)
        self.fc = EqualLinear(width * 16, width)
        self.out = EqualLinear(width, out)
        self.group, self.clamp = group, clamp

    def forward(self, x: Tensor) -> Tensor:
        x = _active(self.conv(minibatch_deviation(x, self.group)), self.clamp)
        return cast(Tensor, self.out(_active(self.fc(x.flatten(1)))))


@final
class StyleDiscriminator(nn.Module):
    """Pictures [B, C, H, W] and, of a conditional one, one-hot classes [B, K] -> logits [B]: real above, made below 0.

    `group`: pictures whose spread is measured together, None for the whole batch, see `nets.pggan`.
    """

    def __init__(self, sizes: StyleGANSizes, residual: bool = True, group: int | None = 4):
        super().__init__()
        levels = range(len(sizes.widths) - 1, 0, -1)
        self.blocks = nn.ModuleDict({str(sizes.sides[i]): StyleDiscriminatorBlock(i, sizes, residual) for i in levels})
        width = sizes.widths[0]
        self.mapping = StyleMapping(0, width, classes=sizes.classes) if sizes.classes else None
        self.head = StyleDiscriminatorHead(width, width if sizes.classes else 1, group, sizes.clamp)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        for block in self.blocks.values():
            x = block(x)
        out = self.head(x)  # [B, 1] or [B, width]
        if self.mapping is None:
            return cast(Tensor, out[:, 0])
        wanted = self.mapping(None, label)  # [B, width]
        return cast(Tensor, (out * wanted).sum(1) / math.sqrt(out.shape[1]))
