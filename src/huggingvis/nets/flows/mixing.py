r"""Invertible mixing of channels: the 1 x 1 convolution of Glow, and one step of that flow.

Kingma & Dhariwal 2018, arXiv 1807.03039, Sec. 3.2: z = W x at every pixel, log-determinant H W log |det W| (Eq. 9), and
W = P L (U + diag(sign exp(log s))) with a fixed permutation P, so that log |det W| = sum log s (Eq. 10, 11).
Book: chapter 3.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.nets.flows.bijection import Bijection, no_change, wide
from huggingvis.nets.flows.pointwise import ActNorm


def _mix(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The 1 x 1 convolution as a matrix product, outside autocast: its inverse must undo it to float32's last digits,
    which convolutions on CUDA, in TF32 unless told otherwise, do not have."""
    with torch.autocast(x.device.type, enabled=False):
        bias = None if bias is None else bias.to(x.dtype)
        return F.linear(x.movedim(1, -1), weight.to(x.dtype), bias).movedim(-1, 1)


@final
class InvertibleConv(Bijection):
    """W x at each pixel of x [B, C, H, W]; W starts as a random rotation."""

    permutation: Tensor
    sign: Tensor
    below: Tensor

    def __init__(self, channels: int):
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels)).Q
        p, l, u = torch.linalg.lu(rotation)
        self.register_buffer("permutation", p)
        self.register_buffer("sign", u.diagonal().sign())
        self.register_buffer("below", torch.ones(channels, channels).tril(-1), persistent=False)
        self.lower, self.upper = nn.Parameter(l), nn.Parameter(u.triu(1))
        self.log_s = nn.Parameter(u.diagonal().abs().log())

    def factors(self) -> tuple[Tensor, Tensor]:
        """L and the whole upper factor, [C, C] each."""
        diagonal = torch.diag(self.sign * self.log_s.exp())
        lower = self.lower * self.below + torch.eye(len(self.log_s), dtype=self.log_s.dtype, device=self.log_s.device)
        return lower, self.upper * self.below.T + diagonal

    def weight(self) -> Tensor:
        """W, [C, C]."""
        with torch.autocast(self.log_s.device.type, enabled=False):
            lower, upper = self.factors()
            return self.permutation @ lower @ upper

    def inverse_weight(self) -> Tensor:
        """W^-1, [C, C], by two triangular systems."""
        with torch.autocast(self.log_s.device.type, enabled=False):
            lower, upper = (wide(factor) for factor in self.factors())
            half = torch.linalg.solve_triangular(lower, wide(self.permutation).T, upper=False, unitriangular=True)
            return torch.linalg.solve_triangular(upper, half, upper=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return _mix(x, self.weight()), no_change(x) + wide(self.log_s).sum() * x[0, 0].numel()

    def inverse(self, z: Tensor) -> Tensor:
        return _mix(z, self.inverse_weight())


@final
class GlowStep(Bijection):
    """Activation norm, 1 x 1 convolution, coupling (Glow, Fig. 2a).

    The first two are linear, so that both are one convolution: W diag(exp s) x + W (b exp s).
    """

    def __init__(self, channels: int, coupling: Bijection):
        super().__init__()
        self.norm, self.mix, self.coupling = ActNorm(channels), InvertibleConv(channels), coupling

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weight, scale = self.mix.weight(), self.norm.log_scale.exp()
        with torch.autocast(x.device.type, enabled=False):
            bias = weight @ (self.norm.shift * scale)
        h = _mix(x, weight * scale, bias)
        z, log_det = self.coupling(h)
        linear = (wide(self.norm.log_scale) + wide(self.mix.log_s)).sum() * x[0, 0].numel()
        return z, log_det + linear

    def inverse(self, z: Tensor) -> Tensor:
        return self.norm.inverse(self.mix.inverse(self.coupling.inverse(z)))

    @torch.no_grad()
    def initialise(self, x: Tensor) -> Tensor:
        return self.coupling.initialise(self.mix.initialise(self.norm.initialise(x)))
