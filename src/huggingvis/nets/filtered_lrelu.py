"""A leaky ReLU that adds no aliases: upsampled before it, low-passed after it.

Karras et al. 2021 (arXiv 2106.12423), Sec. 3 (config F) and App. C. On a continuous signal a leaky ReLU works at each
point, and bends it to frequencies above any bandwidth. On samples these would come back as aliases at the wrong
frequencies, bound to the pixel grid; so the signal is brought to a higher rate, bent there, and what the lower rate
cannot hold is filtered out before every n-th sample is kept. Plain PyTorch. Book: chapter 2.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from huggingvis.nets.resampling import Padding, upfirdn2d
from huggingvis.nets.stylegan import SQRT2


def filtered_lrelu(
    x: Tensor,
    bias: Tensor,
    up_filter: Tensor | None,
    down_filter: Tensor | None,
    *,
    up: int,
    down: int,
    padding: Padding,
    clamp: float | None,
) -> Tensor:
    """sqrt(2) leaky_relu(x + bias, 0.2), cut to [-clamp, clamp], at `up` times the rate of x [B, C, H, W].

    `up_filter` is [K] for each axis, `down_filter` that or [K, K] for both; None, at a factor of 1: no filter.
    `padding`: zeros (before, after; negative crops) at the higher rate. -> [B, C, H', W'] with
    H' = ceil((H up + sum(padding) - K_up - K_down + 2) / down), and W' alike.
    """
    x = x + bias.to(x.dtype)[:, None, None]
    x = _upsampled(x, up_filter, up, padding)
    x = F.leaky_relu(x, 0.2) * SQRT2
    return _downsampled(x if clamp is None else x.clamp(-clamp, clamp), down_filter, down)


def _upsampled(x: Tensor, taps: Tensor | None, up: int, padding: Padding) -> Tensor:
    """Zeros between the samples, `padding`, the filter [K] with a gain that keeps the brightness."""
    if taps is None:
        return F.pad(x, (*padding, *padding))
    return upfirdn2d(x, taps, up=up, padding=padding, gain=float(up**2))


def _downsampled(x: Tensor, taps: Tensor | None, down: int) -> Tensor:
    """The filter [K] or [K, K], then every `down`-th sample."""
    if taps is None:
        return x
    if taps.ndim == 1:
        return upfirdn2d(x, taps, down=down)
    kernel = taps.to(x.dtype).flip(0, 1).expand(x.shape[1], 1, -1, -1)  # conv2d correlates
    with torch.autocast(x.device.type, enabled=False):
        return F.conv2d(x, kernel, stride=down, groups=x.shape[1])
