"""A convolutional eye: what a picture shows, as tokens that a transformer looks at.

It is a detector without its heads (`nets.detector`), so that one that has learnt to name things can lend its weights.
Book: chapter 4, "Sentences as bits".
"""

from __future__ import annotations

from typing import final

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from huggingvis.nets.detector import Trunk

STRIDE = 8
"""Pixels of a token's side."""


@final
class Eyes(Trunk):
    """x [B, 1 or 3, H, W] in [-1, 1] -> tokens [B, H/8 W/8, width], row by row: both maps, the fine one pooled."""

    def __init__(self, fine: int = 64, coarse: int = 160, blocks: int = 2):
        super().__init__(fine, coarse, blocks)
        self.width = fine + coarse

    def forward(self, x: Tensor) -> Tensor:
        fine, coarse = self.trunk(x.expand(-1, 3, -1, -1))
        return rearrange(torch.cat([F.max_pool2d(fine, 2), coarse], 1), "b c h w -> b (h w) c")
