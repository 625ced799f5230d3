r"""Grids: at which times the network is called. Each is a small builder, `Process -> Grid`, that ends at clean data.

    Uniform, LogSNR, Karras, Shifted      any process
    Trailing, Leading, Linspace           tables only: the whole numbers that the community's schedulers choose

Karras: Karras et al. 2022, arXiv 2206.00364, Eq. 5. Spacings of tables: Lin et al. 2023, arXiv 2305.08891, Table 2.
Shifted: Esser et al. 2024, arXiv 2403.03206, Eq. 23. Noise levels are rho = sigma/alpha throughout.
Book: chapter 4, "Grids".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.process import Process
from huggingvis.core.sample import Grid
from huggingvis.processes.table import TableProcess

Schedule = Callable[[Process], Grid]


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise UsageError(f"A schedule needs at least 1 step, found {steps}.")


def _then(times: Tensor, end: float, clocks: Tensor | None = None) -> Grid:
    """The grid of `times` [N] that ends at `end`."""
    return Grid(torch.cat([times, times.new_tensor([end])]), clocks)


def _rho_range(process: Process, low: float | None, high: float | None) -> tuple[float, float]:
    """Ends of a grid in sigma/alpha: as asked, else a table's first and last knot, else EDM's 0.002 and 80."""
    end = math.exp(-0.5 * float(process.log_snr(torch.tensor(1.0, dtype=torch.float64))))
    first = 0.002
    if isinstance(process, TableProcess):
        first = math.exp(-0.5 * float(process.log_snr(process.time_of_index(torch.tensor(0)))))
    else:
        end = min(end, 80.0)
    low, high = low if low is not None else first, high if high is not None else end
    if not 0 < low < high < math.inf:
        raise UsageError(f"Noise levels must satisfy 0 < sigma_min < sigma_max < infinity, found {low:g} and {high:g}.")
    return low, high


def _at_rho(process: Process, rho: Tensor) -> Tensor:
    """Times [N] at which sigma/alpha is `rho`."""
    return process.t_of_logsnr(-2 * torch.log(rho)).clamp(max=1.0)


@final
@dataclass(frozen=True)
class Uniform:
    """Equal steps in time from `start` to `end`. The default for processes in continuous time."""

    steps: int
    start: float = 1.0
    end: float = 0.0

    def __post_init__(self) -> None:
        _check_steps(self.steps)

    def __call__(self, process: Process) -> Grid:
        i = torch.arange(self.steps + 1, dtype=torch.float64)
        return Grid(self.start + (self.end - self.start) * (i / self.steps))


@final
@dataclass(frozen=True)
class LogSNR:
    """Equal steps in log-SNR between two noise levels, then one to clean data; known as the exponential schedule."""

    steps: int
    sigma_min: float | None = None
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        _check_steps(self.steps)

    def __call__(self, process: Process) -> Grid:
        low, high = _rho_range(process, self.sigma_min, self.sigma_max)
        log_rho = torch.linspace(math.log(high), math.log(low), self.steps, dtype=torch.float64)
        return _then(_at_rho(process, log_rho.exp()), 0.0)


@final
@dataclass(frozen=True)
class Karras:
    """The grid of Karras et al.: rho_i = (max^(1/p) + i/(N-1) (min^(1/p) - max^(1/p)))^p, then clean data.

    `rho` is p. `rounded`: tell a table's network the nearest whole number, as DPM-Solver's schedulers do; Euler's and
    Heun's tell the fraction. `clean_end=False` ends at the table's first knot instead.
    """

    steps: int
    rho: float = 7.0
    sigma_min: float | None = None
    sigma_max: float | None = None
    rounded: bool = False
    clean_end: bool = True

    def __post_init__(self) -> None:
        _check_steps(self.steps)

    def __call__(self, process: Process) -> Grid:
        low, high = (r ** (1 / self.rho) for r in _rho_range(process, self.sigma_min, self.sigma_max))
        ramp = torch.linspace(0, 1, self.steps, dtype=torch.float64)
        times = _at_rho(process, (high + ramp * (low - high)) ** self.rho)  # [N]
        end = 0.0 if self.clean_end else 1.0 / _table(process, "Karras(clean_end=False)").steps
        if self.rounded:
            return _then(times, end, _table(process, "Karras(rounded=True)").clock(times).round())
        return _then(times, end)


@final
@dataclass(frozen=True)
class Shifted:
    """Equal steps in flow time, moved towards noise: t -> shift t/(1 + (shift - 1) t), for large pictures.

    `last`: flow time of the last call before the shift; none: 1/steps, the same as the other gaps.
    """

    steps: int
    shift: float = 3.0
    last: float | None = None

    def __post_init__(self) -> None:
        _check_steps(self.steps)
        if self.shift <= 0:
            raise UsageError(f"A shift is a positive number (1 changes nothing), found {self.shift}.")

    def __call__(self, process: Process) -> Grid:
        last = 1 / self.steps if self.last is None else self.last
        t = torch.linspace(1.0, last, self.steps, dtype=torch.float64)
        return _then(self.shift * t / (1 + (self.shift - 1) * t), 0.0)


@final
@dataclass(frozen=True)
class Trailing:
    """Indices round(T - i T/N) - 1: begins at the last knot, pure noise. What zero-terminal-SNR models need.

    `clean_end`: end at t = 0 (the schedulers' `set_alpha_to_one`), else at the first knot.
    """

    steps: int
    clean_end: bool = True

    def __post_init__(self) -> None:
        _check_steps(self.steps)

    def __call__(self, process: Process) -> Grid:
        table = _table(process, "trailing", self.steps)
        # NumPy's arange, with which these numbers are made elsewhere, steps by this difference: it decides the ties
        step = (table.steps - table.steps / self.steps) - table.steps
        index = (table.steps + torch.arange(self.steps, dtype=torch.float64) * step).round() - 1
        return _on_knots(table, index, self.clean_end)


@final
@dataclass(frozen=True)
class Leading:
    """Indices i floor(T/N) + offset: begins one gap short of pure noise. Stable Diffusion 1's habit, with offset 1.

    `open_end`: gaps of floor(T/(N+1)) and the smallest index left out, as DPM-Solver's schedulers do.
    `clean_end`: end at t = 0 (`set_alpha_to_one`), else at the first knot.
    """

    steps: int
    offset: int = 0
    open_end: bool = False
    clean_end: bool = True

    def __post_init__(self) -> None:
        _check_steps(self.steps)

    def __call__(self, process: Process) -> Grid:
        points = self.steps + 1 if self.open_end else self.steps
        table = _table(process, "leading", points)
        index = torch.arange(points, dtype=torch.float64) * (table.steps // points)
        index = index.flip(0)[: self.steps] + self.offset
        if index[0] > table.steps - 1:
            raise UsageError(
                f"Leading spacing with {self.steps} steps and offset {self.offset} asks for index {int(index[0])}, but "
                f"the table ends at {table.steps - 1}. Use fewer steps or offset 0."
            )
        return _on_knots(table, index, self.clean_end)


@final
@dataclass(frozen=True)
class Linspace:
    """N indices evenly from T - 1 to 0, both ends called.

    `rounded`: to whole numbers (DDPM, DDIM, DPM-Solver), else the network is told fractions (Euler, Heun, k-diffusion).
    `open_end`: N + 1 points without the last, 0 (DPM-Solver; with fractions, "SGM uniform").
    `chord`: the noise level at a fraction lies on the chord between its neighbours, as diffusers' Euler and Heun
    interpolate; else on the process, log-linear, as k-diffusion does.
    """

    steps: int
    rounded: bool = True
    open_end: bool = False
    chord: bool = False
    clean_end: bool = True

    def __post_init__(self) -> None:
        _check_steps(self.steps)

    def __call__(self, process: Process) -> Grid:
        points = self.steps + 1 if self.open_end else self.steps
        table = _table(process, "linspace", points if self.rounded else 1)
        # upwards from 0 and then turned round, so that halves round as they do in NumPy's linspace
        gap = (table.steps - 1) / max(points - 1, 1)
        index = torch.arange(points, dtype=torch.float64) * gap
        index = index.flip(0)[: self.steps]
        if self.rounded:
            return _on_knots(table, index.round(), self.clean_end)
        if not self.chord:
            return _on_knots(table, index, self.clean_end)
        below = index.floor()
        above = (below + 1).clamp(max=table.steps - 1)
        rho_below, rho_above = (torch.exp(-table.log_snr(table.time_of_index(k)) / 2) for k in (below, above))
        rho = rho_below + (index - below) * (rho_above - rho_below)  # [N]
        return _then(_at_rho(table, rho), 0.0 if self.clean_end else 1.0 / table.steps, index)


def _table(process: Process, spacing: str, calls: int = 1) -> TableProcess:
    """The process as a table with at least `calls` knots, or a `UsageError`."""
    if not isinstance(process, TableProcess):
        raise UsageError(
            f"The schedule {spacing!r} counts the entries of a noise table, but this model's process "
            f"({type(process).__name__}) runs in continuous time. Use 'uniform', 'karras' or 'logsnr'."
        )
    if calls > process.steps:
        raise UsageError(f"This model's noise table has {process.steps} entries: ask for at most as many steps.")
    return process


def _on_knots(table: TableProcess, index: Tensor, clean_end: bool) -> Grid:
    """The grid that calls the network at `index` [N] (falling) and tells it these numbers."""
    return _then(table.time_of_index(index), 0.0 if clean_end else 1.0 / table.steps, index)
