"""What every builder of grids uses: its checks, its end, and times by noise level or by index.

Noise levels are rho = sigma/alpha throughout; a table's first and last are those of its first and last knot.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.grid import Grid
from huggingvis.core.process import Process
from huggingvis.processes.table import TableProcess

Schedule = Callable[[Process], Grid]


def check_steps(steps: int) -> None:
    if steps < 1:
        raise UsageError(f"A schedule needs at least 1 step, found {steps}.")


def then(times: Tensor, end: float, clocks: Tensor | None = None) -> Grid:
    """The grid of `times` [N] that ends at `end`."""
    return Grid(torch.cat([times, times.new_tensor([end])]), clocks)


def rho_range(process: Process, low: float | None, high: float | None) -> tuple[float, float]:
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


def at_rho(process: Process, rho: Tensor) -> Tensor:
    """Times [N] at which sigma/alpha is `rho`."""
    return process.t_of_logsnr(-2 * torch.log(rho)).clamp(max=1.0)


def on_levels(process: Process, rho: Tensor, end: float, clocks: Tensor | None = None) -> Grid:
    """The grid that calls the network at the noise levels `rho` [N], falling, and ends at the time `end`.

    Raises `UsageError` where the process does not reach the levels, so that two of them are one time.
    """
    times = at_rho(process, rho)  # [N]
    if bool((times.diff() >= 0).any()):
        raise UsageError(
            f"This schedule has noise levels from {float(rho[0]):g} to {float(rho[-1]):g}, which this model's "
            f"{type(process).__name__} does not tell apart. Use fewer steps, or a schedule that asks the process for "
            "its levels, such as 'karras'."
        )
    return then(times, end, clocks)


def table_of(process: Process, spacing: str, calls: int = 1) -> TableProcess:
    """The process as a table with at least `calls` knots, or a `UsageError`."""
    if not isinstance(process, TableProcess):
        raise UsageError(
            f"The schedule {spacing!r} counts the entries of a noise table, but this model's process "
            f"({type(process).__name__}) runs in continuous time. Use 'uniform', 'karras' or 'logsnr'."
        )
    if calls > process.steps:
        raise UsageError(f"This model's noise table has {process.steps} entries: ask for at most as many steps.")
    return process


def on_knots(table: TableProcess, index: Tensor, clean_end: bool) -> Grid:
    """The grid that calls the network at `index` [N] (falling) and tells it these numbers."""
    return then(table.time_of_index(index), 0.0 if clean_end else 1.0 / table.steps, index)
