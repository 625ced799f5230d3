r"""Restart: a grid that goes back up. Fresh noise washes out what the deterministic steps before it did wrong.

Xu, Deng, Cheng, Tian, Liu, Jaakkola 2023, arXiv 2306.14878, Algorithm 2: the inner grid is walked down to `low`; then,
`times` times, noise is added up to `high` (Eq. 3) and an own grid of `steps` steps, theirs is Karras', leads back to
`low`. Where a grid rises the one loop adds the noise, so any sampler restarts. Book: chapter 4, "Restart".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch

from huggingvis.core.errors import UsageError
from huggingvis.core.grid import Grid
from huggingvis.core.process import Process
from huggingvis.samplers.grids._common import Schedule, at_rho
from huggingvis.samplers.grids.levels import Karras

SYSTEM = {
    "name": "Restart",
    "chapter": 4,
    "paper": "2306.14878",
    "files": ["core/sample.py"],
    "built": "tests/walks/test_samplers_by_name.py::test_every_schedule_draws_from_a_run[restart]",
    "exact": [
        "tests/oracle/test_grids.py::test_restarts_rise_and_fall",
        "tests/oracle/test_grids.py::test_restarts_draw_the_mixture",
    ],
    "trained": None,
    "explained": None,
    "usable": None,
}


@final
@dataclass(frozen=True)
class Interval:
    """`times` (K) rounds of `steps` steps between the noise levels `low` (t_min) and `high` (t_max) in sigma/alpha."""

    times: int = 1
    steps: int = 9
    low: float = 0.1
    high: float = 2.0

    def __post_init__(self) -> None:
        if self.times < 0 or self.steps < 1 or not 0 < self.low < self.high:
            raise UsageError(
                "A restart has a number of rounds that is not negative, at least 1 step in each and noise levels "
                f"0 < low < high; found {self.times}, {self.steps}, {self.low:g} and {self.high:g}."
            )


@final
@dataclass(frozen=True)
class Restart:
    """The grid of `inner` with the `intervals`; each starts from the inner time whose noise level is nearest its `low`.

    Calls: those of `inner` and times x steps of every interval.
    """

    inner: Schedule
    intervals: tuple[Interval, ...] = (Interval(),)

    def __call__(self, process: Process) -> Grid:
        grid = self.inner(process)
        alpha, sigma = process.alpha(grid.times), process.sigma(grid.times)
        rho = sigma[1:-1] / alpha[1:-1]  # the first and the last time are no places to restart from
        rounds: dict[int, list[Interval]] = {}
        for interval in self.intervals:
            if len(rho) == 0 or interval.high <= float(rho.min()):
                raise UsageError(
                    "A restart needs an inner grid with a time below its upper noise level. Use more steps."
                )
            rounds.setdefault(1 + int((rho - interval.low).abs().argmin()), []).append(interval)
        clocks = process.clock(grid.times[:-1]) if grid.clocks is None else grid.clocks
        times, told = [], []
        for i in range(len(grid)):
            for interval in rounds.get(i, ()):
                down = _down(process, interval, grid.times[i])  # [steps]
                for _ in range(interval.times):
                    times += [grid.times[i : i + 1], down]
                    told += [clocks[i : i + 1], process.clock(down)]
            times.append(grid.times[i : i + 1])
            told.append(clocks[i : i + 1])
        return Grid(torch.cat([*times, grid.times[-1:]]), None if grid.clocks is None else torch.cat(told))


def usual(steps: int) -> Schedule:
    """The community's "Restart": Karras' grid, from 20 steps on with one round of 9 steps, from 36 on two of a quarter.

    All calls together are `steps`, each from 2 down to 0.1.
    """
    if steps < 20:
        return Karras(steps)
    times, each = (2, steps // 4) if steps >= 36 else (1, 9)
    return Restart(Karras(steps - times * each), (Interval(times, each),))


def _down(process: Process, interval: Interval, end: torch.Tensor) -> torch.Tensor:
    """Times [steps] from the interval's upper level down, by Karras' rule, without their end."""
    low = float(process.sigma(end) / process.alpha(end))
    ends = torch.tensor([interval.high, low], dtype=torch.float64) ** (1 / 7)
    way = torch.arange(interval.steps, dtype=torch.float64) / interval.steps
    return at_rho(process, (ends[0] + way * (ends[1] - ends[0])) ** 7)
