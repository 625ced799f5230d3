"""Deep convolutional generator and discriminator.

Radford, Metz & Chintala 2015 (arXiv 1511.06434), Sec. 3 and Fig. 1: strided 5x5 convolutions in both directions and no
pooling, batch normalisation everywhere but at the generator's output and the discriminator's input, ReLU in the
generator with tanh at its end, leaky ReLU of slope 0.2 in the discriminator, no hidden fully connected layers; weights
start as N(0, 0.02^2). `width` 128 on 64 pixels is the paper's generator. Book: chapter 2.

A picture of any size is halved, rounding up, until its longer side is 4 or less; 28 pixels go 28, 14, 7, 4.
"""

from __future__ import annotations

from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.core.protocols import Cond
from huggingvis.nets.conv_vae import sizes

_LEVELS = 12  # up to 8192 pixels


def _start_small(net: nn.Module) -> None:
    """Sec. 4: weights from N(0, 0.02^2); gains of batch norm around 1, as in the authors' code."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)


@final
class DCGANGenerator(nn.Module):
    """z [B, D] -> picture [B, C, H, W] in (-1, 1). `width`: channels before the last layer, doubled at each halving."""

    def __init__(self, shape: tuple[int, int, int], latent_dim: int = 100, width: int = 128):
        super().__init__()
        self.sizes = sizes(shape[1], shape[2], _LEVELS)[::-1]  # coarsest first
        ups = len(self.sizes) - 1
        channels = [width * 2**i for i in reversed(range(max(ups, 1)))]  # of the maps that are normalised
        h, w = self.sizes[0]
        self.first = nn.Linear(latent_dim, channels[0] * h * w, bias=False)
        self.grid = (channels[0], h, w)
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) for c in channels)
        stride, last = (2 if ups else 1), len(channels) - 1
        self.convs = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 5, stride=stride, padding=2, bias=i == last)
            for i, (a, b) in enumerate(pairwise([*channels, shape[0]]))
        )
        _start_small(self)

    def forward(self, z: Tensor, cond: Cond) -> Tensor:
        h = self.first(z).unflatten(1, self.grid)  # [B, width 2^n, h, w]
        for norm, conv, size in zip(self.norms, self.convs, [*self.sizes[1:], self.sizes[-1]]):
            h = conv(F.relu(norm(h)), output_size=size)
        return h.tanh()


@final
class DCGANCritic(nn.Module):
    """Picture [B, C, H, W] -> logit [B]. `width`: channels after the first convolution, doubled at each halving."""

    def __init__(self, shape: tuple[int, int, int], width: int = 128):
        super().__init__()
        steps = sizes(shape[1], shape[2], _LEVELS)
        downs = max(len(steps) - 1, 1)
        channels = [shape[0], *(width * 2**i for i in range(downs))]
        stride = 2 if len(steps) > 1 else 1
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 5, stride=stride, padding=2, bias=i == 0) for i, (a, b) in enumerate(pairwise(channels))
        )
        self.norms = nn.ModuleList(nn.Identity() if i == 0 else nn.BatchNorm2d(c) for i, c in enumerate(channels[1:]))
        h, w = steps[-1]
        self.out = nn.Linear(channels[-1] * h * w, 1)
        _start_small(self)

    def maps(self, x: Tensor) -> list[Tensor]:
        """The map after each convolution, finest first: [B, width 2^i, ceil(H / 2^(i+1)), ...]."""
        found = []
        for conv, norm in zip(self.convs, self.norms):
            x = F.leaky_relu(norm(conv(x)), 0.2)
            found.append(x)
        return found

    def features(self, x: Tensor) -> Tensor:
        """The paper's features of pictures, Sec. 5.1: the maximum of every map in each cell of a 4x4 grid, [B, D]."""
        return torch.cat([F.adaptive_max_pool2d(found, 4).flatten(1) for found in self.maps(x)], dim=1)

    def forward(self, x: Tensor, cond: Cond) -> Tensor:
        return self.out(self.maps(x)[-1].flatten(1)).flatten()
