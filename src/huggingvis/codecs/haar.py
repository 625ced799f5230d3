r"""The Haar wavelet transform: a picture as a small one and the details that it lacks, in an orthonormal basis.

Haar 1910; Mallat 1989. Of each square of four pixels a b / c d

    (a + b + c + d)/2    (a - b + c - d)/2    (a + b - c - d)/2    (a - b - c + d)/2

the first is a pixel of a picture half as wide, which is taken apart again; the others are details, upright, lying and
oblique. Noise that is white in pixels is so here. All bands are folded to the coarsest one's size, so that a network
sees one array, coarse channels first. Batzolis et al. 2022 (arXiv 2207.09786, Sec. 4) diffuse the bands at different
speeds. Book: chapter 4, "Different speeds".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from huggingvis.core.errors import UsageError


@final
@dataclass(frozen=True)
class Haar:
    """`levels` times. `encode` [B, C, H, W] -> [B, C 4^levels, H/2^levels, W/2^levels]; `decode` back, in [-1, 1]."""

    levels: int = 1

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise UsageError(f"A picture is taken apart at least once, found {self.levels} levels.")

    @property
    def factor(self) -> int:
        """Pixels of a side to one of model space."""
        return int(2**self.levels)

    def bands(self, channels: int) -> tuple[int, ...]:
        """Channels of each band for pictures of `channels`: the small picture, coarse details, ..., fine details."""
        return (channels, *(3 * channels * 4**level for level in range(self.levels)))

    def encode(self, x: Tensor) -> Tensor:
        bands = []
        for level in reversed(range(self.levels)):
            x, details = _apart(x)  # [B, C, h, w], [B, 3 C, h, w]
            bands.append(F.pixel_unshuffle(details, 2**level))
        return torch.cat([x, *reversed(bands)], 1)

    def join(self, z: Tensor) -> Tensor:
        """The inverse of `encode`, of any numbers."""
        x, *bands = z.split(self.bands(z.shape[1] // 4**self.levels), 1)
        for level, band in enumerate(bands):
            x = _together(x, F.pixel_shuffle(band, 2**level))
        return x

    def decode(self, z: Tensor) -> Tensor:
        return self.join(z).clamp(-1, 1)


def _signs(like: Tensor) -> Tensor:
    """[4, 4] orthonormal and its own inverse: rows are bands, columns the pixels of a square."""
    rows = ((1, 1, 1, 1), (1, -1, 1, -1), (1, 1, -1, -1), (1, -1, -1, 1))
    return torch.tensor(rows, dtype=like.dtype, device=like.device) / 2


def _apart(x: Tensor) -> tuple[Tensor, Tensor]:
    squares = F.pixel_unshuffle(x, 2).unflatten(1, (-1, 4))  # [B, C, 4, h, w]
    bands = torch.einsum("kp,bcphw->bkchw", _signs(x), squares)  # [B, 4, C, h, w]
    return bands[:, 0], bands[:, 1:].flatten(1, 2)


def _together(x: Tensor, details: Tensor) -> Tensor:
    bands = torch.cat([x[:, None], details.unflatten(1, (3, -1))], 1)  # [B, 4, C, h, w]
    squares = torch.einsum("kp,bkchw->bcphw", _signs(x), bands)  # [B, C, 4, h, w]
    return F.pixel_shuffle(squares.flatten(1, 2), 2)
