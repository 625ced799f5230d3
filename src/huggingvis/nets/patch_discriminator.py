"""Patch discriminator: judges each neighbourhood of a picture as real or made.

Isola et al. 2017 (arXiv 1611.07004), section 3.2.2, without batch statistics so that it is the same in any batch.
Book: chapter 5, "A space worth diffusing in".
"""

from __future__ import annotations

from typing import final

from torch import Tensor, nn


@final
class PatchDiscriminator(nn.Module):
    """[B, 3, H, W] -> one logit for each patch [B, 1, H/4, W/4]."""

    def __init__(self, in_channels: int = 3, width: int = 32):
        super().__init__()
        w = width
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, w, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(w, 2 * w, 4, 2, 1),
            nn.GroupNorm(8, 2 * w),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * w, 4 * w, 3, 1, 1),
            nn.GroupNorm(8, 4 * w),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * w, 1, 3, 1, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
