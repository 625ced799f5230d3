r"""An autoencoder that works in overlapping tiles: large pictures in the memory of small ones.

Neighbouring tiles are cross-faded over what they share, first with the tile above, then with the one to the left,
as diffusers' `enable_tiling` does:

    out[k] = (1 - k/n) before[k] + (k/n) here[k],    k = 0 ... n - 1 of n shared rows or columns

What differs is where tiles lie: all have one size and are spread evenly, so that none is a thin rest at the edge,
whose group norms would see next to nothing. Group norms still take their statistics tile by tile; the fade hides what
that changes, and larger tiles lessen it. One tile is the whole, bit for bit. Book: chapter 6, "Large pictures".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from huggingvis.nets.autoencoder_kl import AutoencoderKL, Posterior

Span = tuple[int, int]
Places = Callable[[int, int, float], Sequence[Span]]
"""(length of an axis, of a tile, overlap) -> where tiles begin and end, in order; each shares a part with the next."""

MOST_BYTES = 4 << 30
"""Up to so much memory a picture is decoded whole: one of 1024x1024 by Stable Diffusion's autoencoder in float32."""
MAPS = 6.4
"""Peak memory, counted in maps of the finest level: 3270 bytes a pixel of 128 channels in float32, as measured."""
USUAL_SIDE = 512
"""Pixels of a tile where nobody says otherwise: what the autoencoders of Stable Diffusion 1 and 2 were trained on."""
OVERLAP = 0.25
RING = 8
"""Latents that are repeated beyond an edge which meets the opposite one: more than a decoder's convolutions see."""


def spread(length: int, tile: int, overlap: float) -> list[Span]:
    """As few tiles as share at least `overlap` of themselves with the next, evenly spread."""
    if tile >= length:
        return [(0, length)]
    count = 1 + math.ceil((length - tile) / max(1, int(tile * (1 - overlap))))
    starts = [round(i * (length - tile) / (count - 1)) for i in range(count)]
    return [(start, start + tile) for start in starts]


def sewn(x: Tensor, f: Callable[[Tensor], Tensor], rows: Sequence[Span], columns: Sequence[Span]) -> Tensor:
    """f(x) [B, C', rH, rW] of x [B, C, H, W], tile by tile, r the ratio of sizes that f has."""
    out: Tensor | None = None
    above: list[Tensor] = []
    for i, (top, bottom) in enumerate(rows):
        here: list[Tensor] = []
        for j, (left, right) in enumerate(columns):
            tile = f(x[:, :, top:bottom, left:right])  # [B, C', rh, rw]
            at = [_scaled(n, tile.shape[2], bottom - top) for n in (top, bottom, left, right)]
            if i:
                tile = _faded(above[j], tile, _scaled(rows[i - 1][1], tile.shape[2], bottom - top) - at[0], 2)
            if j:
                tile = _faded(here[-1], tile, _scaled(columns[j - 1][1], tile.shape[2], bottom - top) - at[2], 3)
            here.append(tile)
            if out is None:
                size = (_scaled(n, tile.shape[2], bottom - top) for n in x.shape[-2:])
                out = tile.new_empty(*tile.shape[:2], *size)
            out[:, :, at[0] : at[1], at[2] : at[3]] = tile  # its shared end is written over by the next
        above = here
    assert out is not None
    return out


def _scaled(n: int, to: int, of: int) -> int:
    return n * to // of


def _faded(before: Tensor, here: Tensor, shared: int, dim: int) -> Tensor:
    """`here`, the first `shared` rows or columns of which rise out of the last ones of `before`."""
    rise = torch.arange(shared, device=here.device, dtype=here.dtype) / shared
    rise = rise.reshape([-1 if d == dim else 1 for d in range(4)])
    old, new = before.narrow(dim, before.shape[dim] - shared, shared), here.narrow(dim, 0, shared)
    rest = here.narrow(dim, shared, here.shape[dim] - shared)
    return torch.cat([old * (1 - rise) + new * rise, rest], dim)


@final
@dataclass(frozen=True)
class Tiling:
    """An autoencoder's work cut into tiles of `side` pixels; None: the whole at once.

    `wrap`: whether the upper and lower, the left and right edges meet; pictures are then decoded as on a ring.
    """

    side: int | None = USUAL_SIDE
    wrap: tuple[bool, bool] = (False, False)
    overlap: float = OVERLAP
    places: Places = spread

    def posterior(self, whole: AutoencoderKL, x: Tensor) -> Posterior:
        """q(z|x) of pictures x [B, 3, H, W]."""

        def moments(tile: Tensor) -> Tensor:
            q = whole.posterior(tile)
            return torch.cat([q.mean, q.logvar], dim=1)  # [B, 2C, h, w]

        f = whole.factor
        rows, columns = ([(f * a, f * b) for a, b in self._spans(n // f, f)] for n in x.shape[-2:])
        if len(rows) == len(columns) == 1:
            return whole.posterior(x)
        return Posterior(*sewn(x, moments, rows, columns).chunk(2, dim=1))

    def decode(self, whole: AutoencoderKL, z: Tensor) -> Tensor:
        """Pictures of latents z [B, C, h, w], in the autoencoder's own units."""
        ring = [min(RING, n) if wrap else 0 for n, wrap in zip(z.shape[-2:], self.wrap, strict=True)]
        if any(ring):
            z = F.pad(z, (ring[1], ring[1], ring[0], ring[0]), mode="circular")
        rows, columns = (self._spans(n, whole.factor) for n in z.shape[-2:])
        one = len(rows) == len(columns) == 1
        x = whole.decode(z) if one else sewn(z, whole.decode, rows, columns)  # [B, 3, H, W]
        top, left = (n * whole.factor for n in ring)
        return x[:, :, top : x.shape[2] - top, left : x.shape[3] - left]

    def _spans(self, length: int, factor: int) -> Sequence[Span]:
        return [(0, length)] if self.side is None else self.places(length, self.side // factor, self.overlap)


def usual_side(autoencoder: AutoencoderKL, width: int, height: int, dtype: torch.dtype) -> int | None:
    """Pixels of the tiles that a picture should be decoded in; None: whole, as memory allows it."""
    c = autoencoder.config
    a_map = width * height / c.patch**2 * c.channels[0] * dtype.itemsize  # bytes
    if a_map * MAPS <= MOST_BYTES:
        return None
    return max(1, USUAL_SIDE // autoencoder.factor) * autoencoder.factor
