"""A plan of a picture as channels that a U-Net sees beside x: for each place, which kind of thing is to be there.

A `Plan` is things with a kind, a colour and a box each. Its map has a channel for each kind and each colour,
and says of every place how much of it each thing covers, as the class maps of semantic image synthesis do (Park et al.
2019, arXiv 1903.07291; of text-to-image, Gafni et al. 2022, arXiv 2203.13131). Two channels say where a place lies in
its thing's box, so that neighbours of one kind stay two. Book: chapter 5, "Plan, then draw".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor
from torch.nn import functional as F

NONE = -1


class Plan(NamedTuple):
    """What is to be where, in each of B pictures; `NONE` stands for no thing, or no colour said of a thing."""

    kinds: Tensor  # [B, S] int64
    colours: Tensor  # [B, S] int64
    boxes: Tensor  # [B, S, 4]: left, top, right, bottom in [0, 1] of the canvas


@final
@dataclass(frozen=True)
class PlanMap:
    """plan -> [B, channels, H, W], zero where nothing is planned. What lies over one another adds up, in no order.

    Channels: 1 how much of a place things cover, 2 where it lies across and down in their boxes (-1 to 1, times what
    they cover), then `kinds`, then `colours`.
    """

    kinds: int
    colours: int

    @property
    def channels(self) -> int:
        return 3 + self.kinds + self.colours

    def __call__(self, plan: Plan, height: int, width: int) -> Tensor:
        x0, y0, x1, y1 = plan.boxes.unbind(-1)  # [B, S]
        there = (plan.kinds != NONE).to(x0.dtype)
        over_x, in_x = _along(x0, x1, width)  # [B, S, W]
        over_y, in_y = _along(y0, y1, height)  # [B, S, H]
        over = there[..., None, None] * over_y[..., :, None] * over_x[..., None, :]  # [B, S, H, W]
        where = torch.stack([over.sum(1), (over * in_x[..., None, :]).sum(1), (over * in_y[..., :, None]).sum(1)], 1)
        said = torch.cat([_one_hot(plan.kinds, self.kinds), _one_hot(plan.colours, self.colours)], -1)
        return torch.cat([where, torch.einsum("bsk,bshw->bkhw", said.to(over.dtype), over)], 1)


def _along(low: Tensor, high: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Of `n` cells along an axis: the share that [low, high] covers, and where their middles lie in it, -1 to 1."""
    edges = torch.arange(n + 1, device=low.device, dtype=low.dtype) / n
    left, right = edges[:-1], edges[1:]
    covered = n * (torch.minimum(high[..., None], right) - torch.maximum(low[..., None], left)).clamp(min=0)
    half = ((high - low) / 2).clamp(min=1e-6)[..., None]
    return covered, (((left + right) / 2 - (low + high)[..., None] / 2) / half).clamp(-1, 1)


def _one_hot(numbers: Tensor, n: int) -> Tensor:
    """[B, S] with `NONE` as all zeros -> [B, S, n]."""
    return F.one_hot(numbers + 1, n + 1)[..., 1:]


def codes_of(plan: Plan, places: int) -> Tensor:
    """The boxes in whole steps of 1/places, int64 [B, S, 4]; all zeros where there is no thing."""
    codes = (places * plan.boxes).round().long().clamp(0, places)
    return codes.where((plan.kinds != NONE)[..., None], 0)
