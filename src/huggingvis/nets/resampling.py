"""Resampling by a finite impulse response: insert zeros, pad, filter, keep every n-th pixel. Plain PyTorch.

What StyleGAN calls upfirdn (Karras et al. 2019, arXiv 1912.04958, App. B; Zhang 2019, arXiv 1904.11486, on why networks
need a low-pass filter where they resample). All filters here are separable, so each axis is one depthwise convolution;
the zeros are never made: a transposed convolution skips them, a strided one skips what would be thrown away. It can be
differentiated any number of times, which penalties on gradients need. Book: chapter 2.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

BINOMIAL = (1.0, 3.0, 3.0, 1.0)
"""The low-pass filter of StyleGAN2, before it is brought to sum 1."""

Padding = tuple[int, int]


def taps(weights: tuple[float, ...] = BINOMIAL) -> Tensor:
    """A filter of sum 1, [K] float32."""
    given = torch.tensor(weights)
    return given / given.sum()


def upfirdn2d(
    x: Tensor, taps: Tensor, *, up: int = 1, down: int = 1, padding: Padding = (0, 0), gain: float = 1.0
) -> Tensor:
    """x [B, C, H, W] -> [B, C, H', W'] with H' = ceil((H up + sum(padding) - K + 1) / down), and W' alike.

    Both axes alike: `up` - 1 zeros after each pixel, `padding` zeros (before, after; negative crops), convolution with
    `taps` [K], every `down`-th pixel, times `gain`. The work is done in the dtype of x, under autocast too: pictures
    would lose bits.
    """
    with torch.autocast(x.device.type, enabled=False):
        taps = (taps * gain**0.5).to(x.dtype)
        for axis in (2, 3):
            x = _filtered(x, taps, axis, up, down, padding)
        return x


def upsample2d(x: Tensor, taps: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, C, 2 H, 2 W], the mean brightness kept. `taps` [K]."""
    k = len(taps)
    return upfirdn2d(x, taps, up=2, padding=((k + 1) // 2, (k - 2) // 2), gain=4.0)


def downsample2d(x: Tensor, taps: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, C, H / 2, W / 2], the mean brightness kept. `taps` [K]."""
    k = len(taps)
    return upfirdn2d(x, taps, down=2, padding=((k - 1) // 2, (k - 2) // 2))


def blur2d(x: Tensor, taps: Tensor) -> Tensor:
    """[B, C, H, W] -> the same size, low-passed. `taps` [K]."""
    k = len(taps)
    return upfirdn2d(x, taps, padding=(k // 2, (k - 1) // 2))


def _filtered(x: Tensor, taps: Tensor, axis: int, up: int, down: int, padding: Padding) -> Tensor:
    """One axis of `upfirdn2d`."""
    channels, k, size = x.shape[1], len(taps), x.shape[axis]
    kernel = taps.view(_along(axis, k)).expand(channels, 1, -1, -1)  # [C, 1, K, 1] or [C, 1, 1, K]
    if up == 1:
        x = _padded(x, axis, padding)
        kernel = kernel.flip(axis)  # conv2d correlates
        return F.conv2d(x, kernel, stride=_along(axis, down), groups=channels)
    full = F.conv_transpose2d(x, kernel, stride=_along(axis, up), groups=channels)  # (size - 1) up + k along the axis
    first, last = k - 1 - padding[0], size * up + padding[1]
    full = _padded(full, axis, (-first, last - full.shape[axis]))
    return full if down == 1 else full[:, :, :: _along(axis, down)[0], :: _along(axis, down)[1]]


def _along(axis: int, n: int) -> tuple[int, int]:
    """(n, 1) for rows, (1, n) for columns."""
    return (n, 1) if axis == 2 else (1, n)


def _padded(x: Tensor, axis: int, ends: Padding) -> Tensor:
    return F.pad(x, (0, 0, *ends) if axis == 2 else (*ends, 0, 0))
