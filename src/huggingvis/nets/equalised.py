"""Equalised learning rate: weights of unit variance, scaled each time they are used.

Karras, Aila, Laine & Lehtinen 2017 (arXiv 1710.10196), Sec. 4.1: w_hat = w c with c = gain / sqrt(fan_in), after He et
al. 2015 (arXiv 1502.01852), where gain is sqrt(2) before a rectifier. Adam's step does not depend on the size of a
gradient, so a weight kept at unit variance changes by the same part of itself in every layer. `lr_multiplier` slows
one layer down (Karras, Laine & Aila 2018, arXiv 1812.04948, App. C): it is initialised larger, scaled smaller, and so
moves less for the same step. Book: chapter 2.
"""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@final
class EqualLinear(nn.Module):
    """x [..., in] -> [..., out]. At the start the layer is N(0, gain^2 / in) with bias `bias_init`, whatever the
    `lr_multiplier`."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        gain: float = 1.0,
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init / lr_multiplier)) if bias else None
        self.scale, self.bias_scale = gain * lr_multiplier / math.sqrt(in_features), lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias * self.bias_scale
        return F.linear(x, self.weight * self.scale, bias)


@final
class EqualConv2d(nn.Module):
    """x [B, C_in, H, W] -> [B, C_out, H', W'] by a convolution of stride 1; fan_in is C_in kernel^2."""

    def __init__(self, c_in: int, c_out: int, kernel: int, padding: int, bias: bool = True, gain: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(c_out)) if bias else None
        self.scale, self.padding = gain / math.sqrt(c_in * kernel**2), padding

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.padding)
