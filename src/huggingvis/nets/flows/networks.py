"""Networks inside coupling layers. Their last layer starts at zero, so that every coupling starts as the identity.

Multilayer perceptron: Dinh et al. 2014, NICE, arXiv 1410.8516, Sec. 5.1. Three convolutions: Kingma & Dhariwal 2018,
Glow, arXiv 1807.03039, Sec. 5. Residual network: Dinh et al. 2016, Real NVP, arXiv 1605.08803, Sec. 3.3 and 4.1, with
group norm (Wu & He 2018, arXiv 1803.08494) for batch and weight norm, so that pictures of a batch do not see each
other. Book: chapter 3.
"""

from __future__ import annotations

from itertools import pairwise
from typing import final

from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.nets.blocks import ResBlock


def _from_zero(layer: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _keeping_size(layer: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    """Starts so that a rectifier after it keeps the size of activations (He et al. 2015, arXiv 1502.01852, Eq. 10)."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


@final
class CouplingMLP(nn.Module):
    """[B, D_in] -> [B, D_out] through `depth` hidden layers of `width` rectified units."""

    def __init__(self, d_in: int, d_out: int, width: int = 1000, depth: int = 5):
        super().__init__()
        widths = (d_in, *[width] * depth)
        hidden = [layer for a, b in pairwise(widths) for layer in (_keeping_size(nn.Linear(a, b)), nn.ReLU())]
        self.layers = nn.Sequential(*hidden, _from_zero(nn.Linear(widths[-1], d_out)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@final
class CouplingConvs(nn.Module):
    """[B, C_in, H, W] -> [B, C_out, H, W]: 3 x 3, 1 x 1 and 3 x 3 convolutions with rectifiers between."""

    def __init__(self, c_in: int, c_out: int, width: int = 512):
        super().__init__()
        self.first = _keeping_size(nn.Conv2d(c_in, width, 3, padding=1))
        self.middle = _keeping_size(nn.Conv2d(width, width, 1))
        self.last = _from_zero(nn.Conv2d(width, c_out, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu_(self.middle(F.relu_(self.first(x)))))


@final
class CouplingResNet(nn.Module):
    """[B, C_in, H, W] -> [B, C_out, H, W] through `blocks` residual blocks of `width` channels, a multiple of 8."""

    def __init__(self, c_in: int, c_out: int, width: int = 64, blocks: int = 4):
        super().__init__()
        groups = width // 8
        self.first = nn.Conv2d(c_in, width, 3, padding=1)
        self.blocks = nn.Sequential(*(ResBlock(width, width, groups=groups) for _ in range(blocks)))
        self.norm = nn.GroupNorm(groups, width)
        self.last = _from_zero(nn.Conv2d(width, c_out, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.silu(self.norm(self.blocks(self.first(x)))))
