r"""Modulated convolution: a style scales the input channels of a kernel, and the kernel is normalised again.

Karras et al. 2019 (arXiv 1912.04958), Sec. 2.2:

    w'_ijk  = s_i w_ijk                                    Eq. 1
    w''_ijk = w'_ijk / sqrt(sum_ik w'_ijk^2 + eps)         Eq. 3

A kernel of one's own for each picture needs a grouped convolution; but scaling the input channels before, and the
output channels after, one and the same convolution is the same map, and the two scalings are element-wise work that
`torch.compile` fuses with their neighbours. Book: chapter 2.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from huggingvis.nets.resampling import upfirdn2d

EPS = 1e-8


def demodulation(weight: Tensor, styles: Tensor) -> Tensor:
    """1 / sqrt(sum_ik w'_ijk^2 + eps) of Eq. 3. weight [O, I, K, K], styles [B, I] -> [B, O]."""
    with torch.autocast(weight.device.type, enabled=False):
        power = weight.square().sum((2, 3))  # [O, I]
        return torch.rsqrt(styles.to(weight.dtype).square() @ power.T + EPS)


def modulated_conv2d(
    x: Tensor, weight: Tensor, styles: Tensor, *, demodulate: bool = True, padding: int | None = None
) -> Tensor:
    """x [B, I, H, W] -> [B, O, H', W'] by the kernel weight [O, I, K, K] (K odd) modulated with styles [B, I].

    `padding`: zeros on each side; None: as many as keep the size.
    """
    zeros = weight.shape[2] // 2 if padding is None else padding
    return _scaled(lambda x: F.conv2d(x, weight, padding=zeros), x, weight, styles, demodulate)


def modulated_upconv2d(x: Tensor, weight: Tensor, styles: Tensor, taps: Tensor) -> Tensor:
    """x [B, I, H, W] -> [B, O, 2 H, 2 W]: zeros inserted, the modulated 3x3 kernel, the low-pass filter `taps` [4].

    The kernel is applied as a convolution, not as the correlation that `conv2d` computes.
    """

    def enlarge(x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)  # [B, O, 2 H + 1, 2 W + 1]

    y = _scaled(enlarge, x, weight, styles, True)
    return upfirdn2d(y, taps, padding=(1, 1), gain=4.0)


def _scaled(conv: Callable[[Tensor], Tensor], x: Tensor, weight: Tensor, styles: Tensor, demodulate: bool) -> Tensor:
    """The input channels times their styles, `conv`, the output channels times what normalises their kernels."""
    y = conv(x * styles.to(x.dtype)[:, :, None, None])
    return y * demodulation(weight, styles).to(y.dtype)[:, :, None, None] if demodulate else y
