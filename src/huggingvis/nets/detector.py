"""A small one-stage detector: objects as points (Zhou et al. 2019, arXiv 1904.07850).

For every cell of a map at 1/4 resolution and each of two slots: a heat value for "the centre of an object is here",
class logits, and a box. An object that holds another one (a fox inside a ring) goes to slot 1, everything else to slot
0, so two centres in one cell do not collide. It is the frozen judge of the synthetic world, and its features measure
the Fréchet distance there. Book: chapter 9, "Judges".
"""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.nets.blocks import ResBlock


@dataclass(frozen=True)
class DetectorConfig:
    """Sizes of a `Detector`.

    Attributes:
        classes: object classes (a coloured shape is one class).
        fine: channels at 1/4 resolution.
        coarse: channels at 1/8 resolution.
        blocks: residual blocks at 1/8 resolution.
        slots: objects whose centres may share a cell.
    """

    classes: int = 100
    fine: int = 64
    coarse: int = 160
    blocks: int = 2
    slots: int = 2


class Maps(NamedTuple):
    """What a detector says of each cell: heat logits [B, S, h, w], class logits [B, S, K, h, w], boxes [B, S, 4, h, w].

    A box is (dx, dy, log w, log h): centre relative to the cell's centre and size, in cells.
    """

    heat: Tensor
    classes: Tensor
    box: Tensor


class Trunk(nn.Module, ABC):
    """What a detector sees before it says anything, on two maps that know of each other: widths `fine` and `coarse`."""

    def __init__(self, fine: int, coarse: int, blocks: int):
        super().__init__()
        f, g = fine, coarse
        self.stem1, self.norm1 = nn.Conv2d(3, f // 2, 3, 2, 1), nn.GroupNorm(8, f // 2)
        self.stem2 = nn.Conv2d(f // 2, f, 3, 2, 1)
        self.fine = ResBlock(f, f, groups=8)
        self.down = nn.Conv2d(f, g, 3, 2, 1)
        self.coarse = nn.ModuleList(ResBlock(g, g, groups=8) for _ in range(blocks))
        self.up = nn.Conv2d(g, f, 1)
        self.merge = ResBlock(f, f, groups=8)
        self.norm = nn.GroupNorm(8, f)

    def trunk(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, 3, H, W] in [-1, 1] -> a map [B, fine, H/4, W/4] and a coarse one [B, coarse, H/8, W/8]."""
        fine = self.fine(self.stem2(F.silu(self.norm1(self.stem1(x)))))
        coarse = self.down(fine)
        for block in self.coarse:
            coarse = block(coarse)
        up = F.interpolate(self.up(coarse), scale_factor=2.0, mode="nearest")
        return F.silu(self.norm(self.merge(fine + up))), coarse


@final
class Detector(Trunk):
    """x [B, 3, H, W] in [-1, 1] -> `Maps` at h = H/4, w = W/4."""

    def __init__(self, config: DetectorConfig):
        super().__init__(config.fine, config.coarse, config.blocks)
        self.config = c = config
        self.classify = nn.Conv2d(c.fine, c.slots * c.classes, 1)
        self.locate = nn.Conv2d(c.fine, c.slots * 5, 3, padding=1)

    def forward(self, x: Tensor) -> Maps:
        h, _ = self.trunk(x)
        classes = rearrange(self.classify(h), "b (s k) h w -> b s k h w", s=self.config.slots)
        where = rearrange(self.locate(h), "b (s k) h w -> b s k h w", s=self.config.slots)
        return Maps(where[:, :, 0], classes, where[:, :, 1:])

    def features(self, x: Tensor) -> Tensor:
        """Pooled features of a picture [B, f + g]: means of both maps."""
        h, coarse = self.trunk(x)
        return torch.cat([h.mean((2, 3)), coarse.mean((2, 3))], dim=1)
