"""The times that a sampler walks, from noise to data; `samplers.grids` makes them by name. Book: chapter 4."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

SAME = 1e-12
"""Times that differ by less of themselves are one: made from one level in two ways they differ by up to 4e-15."""


@dataclass(frozen=True)
class Grid:
    """Times from noise to data and, where a net must be told another value than the process's own clock, the clocks.

    `times` [N+1] float64. `clocks` [N] float64 or None: what the net is told at `times[:N]`. Table-backed networks were
    trained on whole numbers; whether and how a schedule rounds to them differs between the community's samplers, so it
    is the grid's choice. A grid may rise: where the next time is larger the loop renoises (RePaint, restart).

    No time stands twice in a row: between equal levels there is no step to make, and a solver with a history would
    divide by its length. Where a schedule ends at the level of its last call, or asks for more noise than a process
    has, the repetition (to `SAME`) is left out here, with its clock, and the grid is shorter.
    """

    times: Tensor
    clocks: Tensor | None = None

    def __post_init__(self) -> None:
        if self.times.dtype != torch.float64 or self.times.ndim != 1 or len(self.times) < 2:
            found = f"{self.times.dtype} {tuple(self.times.shape)}"
            raise ValueError(f"a grid is at least two float64 times, found {found}")
        if self.clocks is not None and len(self.clocks) != len(self.times) - 1:
            raise ValueError(f"{len(self.times) - 1} steps need as many clock values, found {len(self.clocks)}")
        moves = ~torch.isclose(self.times[:-1], self.times[1:], rtol=SAME, atol=0.0)  # [N]
        if not bool(moves.all()):
            if not bool(moves.any()):
                raise ValueError(f"a grid leads from one time to another, found only {float(self.times[0]):g}")
            object.__setattr__(self, "times", torch.cat([self.times[:-1][moves], self.times[-1:]]))
            object.__setattr__(self, "clocks", None if self.clocks is None else self.clocks[moves])

    def __len__(self) -> int:
        return len(self.times) - 1

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(t, s) of each step."""
        return pairwise(self.times.unbind())

    def ranks(self) -> dict[float, int]:
        """Time -> how many of the grid's levels lie above it."""
        return {level: n for n, level in enumerate(sorted(set(self.times.tolist()), reverse=True))}

    def clock_table(self, x: Tensor) -> dict[float, Tensor]:
        """Exact time -> what a network is told there of each sample in `x`, [B], where this grid decides it."""
        if self.clocks is None:
            return {}
        told = self.clocks.to(x.device, torch.float32)[:, None].expand(-1, len(x))  # [N, B]; MPS has no float64
        return dict(zip(self.times[:-1].tolist(), told.unbind(), strict=True))
