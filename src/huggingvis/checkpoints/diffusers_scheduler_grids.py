"""The grids of diffusers' scheduler classes, and the processes that their settings describe.

Three kinds: of solvers that step by whole table entries (DDIM and kin), of those that tell the network fractions (Euler
and kin), and of those with a history. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import torch

from huggingvis.checkpoints.diffusers_common import Json, unsupported
from huggingvis.checkpoints.diffusers_scheduler_flow import ASKED, flow_levels, flow_of
from huggingvis.core.grid import Grid
from huggingvis.core.process import Process
from huggingvis.processes.table import TableProcess
from huggingvis.samplers._strides import GRID, Even, Stride
from huggingvis.samplers.grids import Beta, Karras, Leading, Linspace, LogSNR, Schedule, Trailing


def table_of(full: Json) -> TableProcess:
    """The noise table that completed settings describe."""
    start, end, steps = full["beta_start"], full["beta_end"], full["num_train_timesteps"]
    betas = full["trained_betas"]
    if betas is not None:
        if not isinstance(betas, tuple) or not all(type(beta) in (int, float) for beta in betas):
            raise unsupported("trained_betas", betas, "null, or a list of numbers")
        table = TableProcess.from_betas(torch.tensor(betas, dtype=torch.float64))
    elif full["beta_schedule"] == "squaredcos_cap_v2":
        table = TableProcess.cosine(steps=steps)
    elif full["beta_schedule"] == "linear":
        table = TableProcess.linear(start, end, steps)
    else:
        table = TableProcess.scaled_linear(start, end, steps)
    return table.zero_terminal_snr() if full["rescale_betas_zero_snr"] else table


def process_of(full: Json) -> Process:
    """The process that completed settings describe. Raises `FileProblem`."""
    return flow_of(full) if full.get(ASKED) else table_of(full)


Levels = Karras | LogSNR | Beta
LEVELS: dict[str, type[Levels]] = {
    "use_karras_sigmas": Karras, "use_exponential_sigmas": LogSNR, "use_beta_sigmas": Beta, "use_lu_lambdas": LogSNR,
}  # fmt: skip
"""Grids in noise levels, by the setting that asks for one."""


@final
@dataclass(frozen=True)
class CutDown:
    """The grid of `inner`, of whose clocks the network is told what stands before the point."""

    inner: Schedule

    def __call__(self, process: Process) -> Grid:
        grid = self.inner(process)
        return Grid(grid.times, (process.clock(grid.times[:-1]) + 1e-6).floor())  # a knot's own number is not cut


def kind_of(full: Json) -> str | None:
    """The setting that asks for noise levels, if one does."""
    return next((key for key in (*LEVELS, ASKED) if full.get(key)), None)


def ends_clean(full: Json) -> bool:
    return bool(full.get("final_sigmas_type", "zero") == "zero")


def _bounds(full: Json) -> dict[str, Any]:
    """The ends of a grid in noise levels where they are told."""
    found = {key: full.get(key) for key in ("sigma_min", "sigma_max")}
    for key, value in found.items():
        if value is not None and not (isinstance(value, int | float) and 0 < value < math.inf):
            raise unsupported(key, value, "positive numbers and null")
    return found


def fractions(full: Json, steps: int, *, rounded: bool = False) -> Schedule:
    """Of Euler, Heun and their kin: the network may be told fractions. `rounded`: not those of Karras' levels.

    Noise levels lie between those of the first and the last call that the spacing would have made.
    """
    spacing, offset, end, kind = full["timestep_spacing"], full["steps_offset"], ends_clean(full), kind_of(full)
    if spacing == "linspace":
        spaced: Schedule = Linspace(steps, rounded=False, chord=True, clean_end=end)
    else:
        spaced = Leading(steps, offset, clean_end=end) if spacing == "leading" else Trailing(steps, clean_end=end)
    if kind is None or (steps == 1 and spacing != "linspace"):
        return spaced
    bounds = _bounds(full)
    if spacing != "linspace":
        table = table_of(full)
        first, last = (torch.exp(-table.log_snr(t) / 2) for t in spaced(table).times[[0, steps - 1]])
        bounds = {"sigma_min": bounds["sigma_min"] or float(last), "sigma_max": bounds["sigma_max"] or float(first)}
    more = {"rounded": True} if rounded and kind == "use_karras_sigmas" else {}
    return LEVELS[kind](steps, clean_end=end, **bounds, **more)


def wholes(full: Json, steps: int) -> Schedule:
    """Of the solvers with a history: whole numbers only, and the smallest left out."""
    spacing, end, kind = full["timestep_spacing"], ends_clean(full), kind_of(full)
    _unclipped(full)
    if kind == ASKED:
        return flow_levels(full, steps, end)
    if kind is not None:
        rounds = kind in ("use_karras_sigmas", "use_lu_lambdas")
        more: dict[str, Any] = {"rounded": True} if rounds else {}
        levels = LEVELS[kind](steps, clean_end=end, **_bounds(full), **more)
        return levels if rounds else CutDown(levels)
    if spacing == "linspace":
        return Linspace(steps, open_end=True, clean_end=end)
    if spacing == "leading":
        return Leading(steps, full["steps_offset"], open_end=True, clean_end=end)
    return Trailing(steps, clean_end=end)


def _unclipped(full: Json) -> None:
    """Grids begin where tables end, not where log(alpha/sigma) comes to a `lambda_min_clipped` above that."""
    least = full.get("lambda_min_clipped")
    if isinstance(least, int | float) and least > float(table_of(full).log_snr(torch.tensor(1.0).double())) / 2:
        raise unsupported("lambda_min_clipped", least, "null, and numbers that cut nothing off")


def no_idle_end(full: Json) -> None:
    """Noise levels that end with the least of them end with a step of no length. In a solver with a history alone it
    is nothing; one that corrects, or steps in blocks, does something in it."""
    if kind_of(full) is not None and not ends_clean(full):
        raise unsupported("final_sigmas_type", "sigma_min", f'"zero" beside {kind_of(full)}')


def knots(full: Json, steps: int, clean_end: bool) -> Schedule:
    """Of DDPM, DDIM and PNDM: whole numbers, the smallest among them."""
    spacing = full["timestep_spacing"]
    if spacing == "linspace":
        return Linspace(steps, clean_end=clean_end)
    if spacing == "leading":
        return Leading(steps, full["steps_offset"], clean_end=clean_end)
    return Trailing(steps, clean_end=clean_end)


def even(full: Json, steps: int, *, more: bool = False) -> Stride:
    """The steps of DDIM and PNDM: by T // N whatever the next call is told. The grid's own where these are the same,
    but not where `more` than times is asked of them: points half-way, or a last step that stays where it is."""
    count, spacing = full["num_train_timesteps"], full["timestep_spacing"]
    by = count // steps
    if not more and (spacing == "leading" or (spacing == "trailing" and count % steps == 0)):
        return GRID
    return Even(by / count, by // 2 / count, 0.0 if full["set_alpha_to_one"] else 1.0 / count)


def ends(full: Json, steps: int) -> tuple[float, float]:
    """The times at and below which a solver with a history uses one value, at most two, if it ends so."""
    times = wholes(full, steps)(process_of(full)).times
    if ends_clean(full):
        return 0.0, float(times[-2])
    idle = kind_of(full) is not None  # a step of no length counts as the last
    return (0.0, float(times[-1])) if idle else (float(times[-1]), float(times[-2]))
