r"""Inception v3, up to its 2048 pooled features: the network that the Fréchet distance of images is measured with.

C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens, Z. Wojna 2015, "Rethinking the Inception Architecture for Computer
Vision", arXiv 1512.00567, Table 1. Branches see one input and are joined along channels; large kernels are made of
small ones:

    A   5 x 5 beside two 3 x 3                              Fig. 5, on grids of 35 x 35
    C   n x n as 1 x n and n x 1, with n = 7                Fig. 6, on grids of 17 x 17
    E   1 x 3 beside 3 x 1, not one after the other         Fig. 7, on grids of 8 x 8
    B, D    strided convolutions beside a pool              Fig. 10, from one grid to the next

M. Heusel et al. 2017, arXiv 1706.08500, measure with the weights of 2015-12-05, whose graph is not quite the paper's:
its mean pools do not count their padding, and the last block pools by maximum. Book: chapter 9, "Judges".
"""

from __future__ import annotations

from collections import OrderedDict
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 299
"""Pixels across the pictures that the network was trained on."""
DIM = 2048
"""Features of a picture."""

Kernel = int | tuple[int, int]


@final
class FrozenNorm(nn.Module):
    """Batch normalisation by the statistics that training left, [B, C, H, W] -> the same."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-3):
        super().__init__()
        self.eps = eps
        for name, value in {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}.items():
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


@final
class Unit(nn.Module):
    """Convolution, normalisation, rectifier. `padding`: same (the grid keeps its size) or valid (it shrinks)."""

    def __init__(self, c_in: int, c_out: int, kernel: Kernel, stride: int = 1, padding: str = "same"):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, padding, bias=False)
        self.norm = FrozenNorm(c_out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


@final
class Branches(nn.Module):
    """Several ways from one input, joined along channels."""

    def __init__(self, *branches: nn.Module):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def _mean_pool() -> nn.Module:
    """Means of 3 x 3 windows, of what lies inside the picture."""
    return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)


def _block_a(c: int, pooled: int) -> Branches:
    """c -> 224 + `pooled` channels."""
    return Branches(
        Unit(c, 64, 1),
        nn.Sequential(Unit(c, 48, 1), Unit(48, 64, 5)),
        nn.Sequential(Unit(c, 64, 1), Unit(64, 96, 3), Unit(96, 96, 3)),
        nn.Sequential(_mean_pool(), Unit(c, pooled, 1)),
    )


def _block_b(c: int) -> Branches:
    """c -> c + 480 channels, on a grid of half the side."""
    return Branches(
        Unit(c, 384, 3, stride=2, padding="valid"),
        nn.Sequential(Unit(c, 64, 1), Unit(64, 96, 3), Unit(96, 96, 3, stride=2, padding="valid")),
        nn.MaxPool2d(3, stride=2),
    )


def _block_c(c: int, inner: int) -> Branches:
    """c -> 768 channels, with `inner` inside the factorised 7 x 7."""
    once = (Unit(c, inner, 1), Unit(inner, inner, (1, 7)), Unit(inner, 192, (7, 1)))
    twice = (
        *(Unit(c, inner, 1), Unit(inner, inner, (7, 1)), Unit(inner, inner, (1, 7))),
        *(Unit(inner, inner, (7, 1)), Unit(inner, 192, (1, 7))),
    )
    pooled = (_mean_pool(), Unit(c, 192, 1))
    return Branches(Unit(c, 192, 1), nn.Sequential(*once), nn.Sequential(*twice), nn.Sequential(*pooled))


def _block_d(c: int) -> Branches:
    """c -> c + 512 channels, on a grid of half the side."""
    sevens = (Unit(c, 192, 1), Unit(192, 192, (1, 7)), Unit(192, 192, (7, 1)))
    return Branches(
        nn.Sequential(Unit(c, 192, 1), Unit(192, 320, 3, stride=2, padding="valid")),
        nn.Sequential(*sevens, Unit(192, 192, 3, stride=2, padding="valid")),
        nn.MaxPool2d(3, stride=2),
    )


def _block_e(c: int, pool: nn.Module) -> Branches:
    """c -> 2048 channels."""

    def cross(c: int) -> Branches:
        return Branches(Unit(c, 384, (1, 3)), Unit(c, 384, (3, 1)))

    return Branches(
        Unit(c, 320, 1),
        nn.Sequential(Unit(c, 384, 1), cross(384)),
        nn.Sequential(Unit(c, 448, 1), Unit(448, 384, 3), cross(384)),
        nn.Sequential(pool, Unit(c, 192, 1)),
    )


def fitted(x: Tensor) -> Tensor:
    """Pictures [B, 1 or 3, H, W] as the network sees them, [B, 3, 299, 299]: interpolated without antialiasing."""
    return F.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False).expand(-1, 3, -1, -1)


@final
class InceptionV3(nn.Module):
    """Pictures [B, 1 or 3, H, W] in [-1, 1], of any size -> features [B, 2048]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            OrderedDict[str, nn.Module](
                conv_1a=Unit(3, 32, 3, stride=2, padding="valid"),  # [B, 32, 149, 149]
                conv_2a=Unit(32, 32, 3, padding="valid"),  # [B, 32, 147, 147]
                conv_2b=Unit(32, 64, 3),
                pool_2=nn.MaxPool2d(3, stride=2),  # [B, 64, 73, 73]
                conv_3b=Unit(64, 80, 1),
                conv_4a=Unit(80, 192, 3, padding="valid"),  # [B, 192, 71, 71]
                pool_4=nn.MaxPool2d(3, stride=2),  # [B, 192, 35, 35]
                mixed_5b=_block_a(192, 32),
                mixed_5c=_block_a(256, 64),
                mixed_5d=_block_a(288, 64),  # [B, 288, 35, 35]
                mixed_6a=_block_b(288),  # [B, 768, 17, 17]
                mixed_6b=_block_c(768, 128),
                mixed_6c=_block_c(768, 160),
                mixed_6d=_block_c(768, 160),
                mixed_6e=_block_c(768, 192),
                mixed_7a=_block_d(768),  # [B, 1280, 8, 8]
                mixed_7b=_block_e(1280, _mean_pool()),
                mixed_7c=_block_e(DIM, nn.MaxPool2d(3, stride=1, padding=1)),  # [B, 2048, 8, 8]
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)

    def features(self, x: Tensor) -> Tensor:
        """What `forward` gives, by the name that all judges have for it."""
        maps: Tensor = self.layers(fitted(x))
        return maps.mean((2, 3))
