r"""Grids in time itself, for any process.

Uniform: equal steps. Shifted: equal steps of flow time, moved towards noise; Esser et al. 2024, arXiv 2403.03206,
Eq. 23. Book: chapter 4, "Grids".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch

from huggingvis.core.errors import UsageError
from huggingvis.core.grid import Grid
from huggingvis.core.process import Process
from huggingvis.samplers.grids._common import check_steps, then


@final
@dataclass(frozen=True)
class Uniform:
    """Equal steps in time from `start` to `end`. The default for processes in continuous time."""

    steps: int
    start: float = 1.0
    end: float = 0.0

    def __post_init__(self) -> None:
        check_steps(self.steps)

    def __call__(self, process: Process) -> Grid:
        i = torch.arange(self.steps + 1, dtype=torch.float64)
        return Grid(self.start + (self.end - self.start) * (i / self.steps))


@final
@dataclass(frozen=True)
class Shifted:
    """Equal steps in flow time, moved towards noise: t -> shift t/(1 + (shift - 1) t), for large pictures.

    `first`, `last`: flow times of the first and the last call before the shift; no `last`: as far from 0 as the other
    gaps. diffusers' flow sigmas, `use_flow_sigmas`, begin at 1 - 1/T.
    """

    steps: int
    shift: float = 3.0
    last: float | None = None
    first: float = 1.0

    def __post_init__(self) -> None:
        check_steps(self.steps)
        if self.shift <= 0:
            raise UsageError(f"A shift is a positive number (1 changes nothing), found {self.shift}.")

    def __call__(self, process: Process) -> Grid:
        last = self.first / self.steps if self.last is None else self.last
        t = torch.linspace(self.first, last, self.steps, dtype=torch.float64)
        return then(self.shift * t / (1 + (self.shift - 1) * t), 0.0)
