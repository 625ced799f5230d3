"""Encoder and decoder of a variational autoencoder as small convolutional networks, for pictures of any size.

Strided convolutions halve the picture, rounding up, until its longer side is 4 or the widths are used up; the decoder
goes back through exactly the same sizes by nearest neighbour and convolution (Odena et al. 2016,
doi 10.23915/distill.00003, on why not transposed convolutions). Book: chapter 1.
"""

from __future__ import annotations

from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.nets.initial import he_weights


def sizes(height: int, width: int, levels: int) -> list[tuple[int, int]]:
    """(H, W) of each resolution, finest first; at most `levels` halvings, none below 4 pixels."""
    found = [(height, width)]
    while len(found) <= levels and max(found[-1]) > 4:
        found.append(((found[-1][0] + 1) // 2, (found[-1][1] + 1) // 2))
    return found


@final
class ConvEncoder(nn.Module):
    """[B, C, H, W] -> [B, moments D]: mean and log-variance of q(z|x), or with `moments` 1 a code alone.

    `widths`: channels after each halving. `cond_dim`: numbers of a condition c [B, P] that join before the last layer.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent_dim: int,
        widths: tuple[int, ...] = (32, 64, 128),
        *,
        moments: int = 2,
        cond_dim: int = 0,
    ):
        super().__init__()
        self.sizes = sizes(shape[1], shape[2], len(widths))
        channels = (shape[0], *widths[: len(self.sizes) - 1])
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(channels))
        h, w = self.sizes[-1]
        self.out = nn.Linear(channels[-1] * h * w + cond_dim, moments * latent_dim)
        he_weights(self)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        for conv in self.convs:
            x = F.silu(conv(x))  # [B, width, ceil(H/2), ceil(W/2)]
        h = x.flatten(1)
        return self.out(h if c is None else torch.cat([h, c], dim=1))


@final
class ConvDecoder(nn.Module):
    """[B, D] -> [B, C, H, W]: what the likelihood needs at each pixel. `widths` as in the encoder, finest first."""

    def __init__(self, shape: tuple[int, int, int], latent_dim: int, widths: tuple[int, ...] = (32, 64, 128)):
        super().__init__()
        self.sizes = sizes(shape[1], shape[2], len(widths))[::-1]
        used = widths[: max(len(self.sizes) - 1, 1)][::-1]  # coarsest first
        self.grid = (used[0], *self.sizes[0])
        self.first = nn.Linear(latent_dim, used[0] * self.sizes[0][0] * self.sizes[0][1])
        channels = (*used, used[-1])[: len(self.sizes)]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(channels))
        self.out = nn.Conv2d(channels[-1], shape[0], 3, padding=1)
        he_weights(self)

    def forward(self, z: Tensor) -> Tensor:
        h = F.silu(self.first(z)).unflatten(1, self.grid)  # [B, width, h, w]
        for conv, size in zip(self.convs, self.sizes[1:]):
            h = F.silu(conv(F.interpolate(h, size=size, mode="nearest")))
        return self.out(h)
