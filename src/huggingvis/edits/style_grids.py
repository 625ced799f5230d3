"""Sheets that show what styles do: pictures mixed of two sources at some layer, and pictures drawn towards the mean.

Karras, Laine & Aila 2018 (arXiv 1812.04948), Sec. 3.1 with fig. 3, and App. B with fig. 8. Book: chapter 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.nets.layer_noise import LayerNoise, StoredNoise
from huggingvis.nets.stylegan import StyleGenerator, Truncation, mix


@torch.no_grad()
def mixing_grid(
    generator: StyleGenerator, coarse: Tensor, fine: Tensor, layer: int, noise: LayerNoise | None = None
) -> Tensor:
    """Row i, column j: layers before `layer` by style i of `coarse` [A, L, D], the others by style j of `fine`
    [B, L, D]. Returns [A, B, C, H, W]. Raises `UsageError` for a layer that the generator lacks."""
    if not 0 <= layer <= generator.layers:
        raise UsageError(f"This generator has {generator.layers} layers to mix at, found {layer}: give 0 to that many.")
    rows = [mix(one[None].expand_as(fine), fine, layer) for one in coarse]  # [B, L, D] each
    return torch.stack([generator.paint(row, noise or StoredNoise()) for row in rows])


@torch.no_grad()
def truncation_sweep(
    generator: StyleGenerator, ws: Tensor, psis: Sequence[float], noise: LayerNoise | None = None
) -> Tensor:
    """Row i: the styles ws [N, L, D] truncated by psis[i]. Returns [P, N, C, H, W]; a psi below 0 gives opposites."""
    rows = [Truncation(psi)(ws, generator.w_avg) for psi in psis]
    return torch.stack([generator.paint(row, noise or StoredNoise()) for row in rows])
