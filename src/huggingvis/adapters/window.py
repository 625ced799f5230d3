"""When an adapter acts: an interval of the clock that the network is told.

The community counts in parts of the walk instead ("from 0 to 0.5 of the steps"); `window_of` translates that for the
clocks of a grid. Book: chapter 6, "A second picture".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor


@final
@dataclass(frozen=True)
class Window:
    """Acts while `low` <= clock <= `high`."""

    low: float = -math.inf
    high: float = math.inf

    def weights(self, clock: Tensor) -> Tensor | None:
        """1 for each sample inside, 0 outside, [B]; None where all are inside."""
        if math.isinf(self.low) and math.isinf(self.high) and self.low < self.high:
            return None
        inside = (clock >= self.low) & (clock <= self.high)
        return None if bool(inside.all()) else inside.to(clock.dtype)


ALWAYS = Window()


def window_of(clocks: Tensor, start: float = 0.0, end: float = 1.0) -> Window:
    """The window of those steps that lie between the parts `start` and `end` of the walk; `clocks` [N] of its steps.

    Of N steps, the n-th lasts from n/N to (n+1)/N and belongs to the window only as a whole.
    """
    if start <= 0.0 and end >= 1.0:
        return ALWAYS
    n = torch.arange(len(clocks), dtype=torch.float64)
    inside = clocks[(n / len(clocks) >= start) & ((n + 1) / len(clocks) <= end)].to(torch.float32)  # as nets are told
    if not len(inside):
        return Window(math.inf, -math.inf)
    return Window(float(inside.min()), float(inside.max()))
