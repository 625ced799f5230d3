"""No codec: models whose space is the picture itself. Book: chapter 4."""

from __future__ import annotations

from typing import final

from torch import Tensor


@final
class Pixels:
    """`encode` is the identity; `decode` keeps pictures [B, C, H, W] inside [-1, 1]."""

    def encode(self, x: Tensor) -> Tensor:
        return x

    def decode(self, z: Tensor) -> Tensor:
        return z.clamp(-1, 1)
