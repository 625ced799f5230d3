"""The table of samplers and schedules as records; what can be measured of a sampler is measured, not written down.

Order and error come from the closed-form mixture on the linear variance-preserving process: where the probability-flow
ODE leads from t = 1 to 0.001 is known to 1e-9 by the classical Runge-Kutta method, and the slope of the error over the
number of steps is the order. Book: chapter 4, "Samplers by name".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from huggingvis.core.belief import Belief, Gaussian
from huggingvis.core.catalog import Entry, entries
from huggingvis.core.errors import UsageError
from huggingvis.core.grid import Grid
from huggingvis.core.noise import BatchNoise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Cond, Step
from huggingvis.core.sample import sample
from huggingvis.core.sampler import Sampler, State
from huggingvis.data.mixture import standard_mixture
from huggingvis.processes.ve import LinearVE
from huggingvis.processes.vp import LinearVP
from huggingvis.samplers.grids import LogSNR
from huggingvis.samplers.names import SAMPLERS, SCHEDULES, SamplerRow, ScheduleRow

STEPS = (40, 160)
"""Whose errors tell the order: a line through the errors of 40, 80 and 160 steps has the slope of its two ends."""
NFE = 20
"""Network calls at which errors are told."""
FAMILIES = ("one call a step", "several calls a step", "with earlier steps' beliefs")
_END = 1e-3
Row = TypeVar("Row", SamplerRow, ScheduleRow)


class _Draws:
    """Noise that counts how often it is asked for."""

    def __init__(self) -> None:
        self.count = 0

    def draw(self, like: Tensor) -> Tensor:
        self.count += 1
        return torch.zeros_like(like)


class Walk(NamedTuple):
    """A process and a grid on it, for samplers to be looked at."""

    process: Process
    grid: Grid


class Kind(NamedTuple):
    """What the sampler called `name` does: calls of the network in `each` step, fresh noise or none, its `family`."""

    name: str
    each: int
    stochastic: bool
    family: str


def kind_of(name: str, sampler: Sampler, walk: Walk | None = None) -> Kind:
    """`walk`: one that the sampler is made for; none: it takes any."""
    return Kind(name, *calls_of(sampler, walk), family(sampler, walk))


def _any_walk() -> Walk:
    process = LinearVP()
    return Walk(process, LogSNR(8)(process))


def family(sampler: Sampler, walk: Walk | None = None) -> str:
    """Which of `FAMILIES`."""
    calls, _ = calls_of(sampler, walk)
    return FAMILIES[2] if remembers(sampler, walk) else FAMILIES[min(calls, 2) - 1]


def remembers(sampler: Sampler, walk: Walk | None = None) -> bool:
    """Whether tensors of a step are there in the next."""
    process, grid = walk or _any_walk()
    x, state, noise = torch.ones(1, 1, dtype=torch.float64), sampler.init(), BatchNoise(0)
    for t, s in list(grid.pairs())[:3]:
        x, state = sampler.step(lambda x, t: Gaussian(torch.zeros_like(x)), process, x, t, s, state, noise)
        if _holds_tensor(state):
            return True
    return False


def _holds_tensor(state: State) -> bool:
    if isinstance(state, Tensor):
        return state.ndim > 0  # times are tensors too
    return isinstance(state, tuple) and any(_holds_tensor(part) for part in state)


def calls_of(sampler: Sampler, walk: Walk | None = None) -> tuple[int, bool]:
    """Network calls of a step in the middle of a grid, and whether the sampler draws noise."""
    (process, grid), calls, noise = walk or _any_walk(), [0], _Draws()

    def denoise(x: Tensor, t: Tensor, cond: Cond) -> Belief:
        calls[-1] += 1
        return Gaussian(torch.zeros_like(x))

    def next_step(step: Step) -> None:
        calls.append(0)

    x = torch.ones(1, 1, dtype=torch.float64)
    sample(denoise, process, sampler, x, grid, {}, noise=noise, on_step=next_step)
    return calls[3 * len(grid) // 4], noise.count > 0


@dataclass(frozen=True)
class Ode:
    """Some starts [B, 2], and where the probability-flow ODE of the mixture takes them."""

    start: Tensor
    end: Tensor

    @classmethod
    def of_mixture(cls, batch: int = 16) -> Ode:
        process, denoise = LinearVP(), standard_mixture().denoiser(LinearVP())
        x = start = torch.randn(batch, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

        def slope(x: Tensor, t: Tensor) -> Tensor:
            belief = denoise(x, t, {})
            assert isinstance(belief, Gaussian)
            return process.velocity(x, belief.x0, t)

        for t, s in pairwise(_grid(400).times):
            h, mid = s - t, (s + t) / 2
            k1 = slope(x, t)
            k2 = slope(x + h / 2 * k1, mid)
            k3 = slope(x + h / 2 * k2, mid)
            x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + slope(x + h * k3, s))
        return cls(start, x)

    def error(self, sampler: Sampler, steps: int) -> float:
        """Mean distance [B] from where `sampler` ends to where it should."""
        process = LinearVP()
        denoise = standard_mixture().denoiser(process)
        got = sample(denoise, process, sampler, self.start, _grid(steps), {}, noise=BatchNoise(0))
        return float((got - self.end).norm(dim=1).mean())

    def order(self, sampler: Sampler) -> float:
        """The slope of the error over the number of steps, in logarithms, between `STEPS`."""
        few, many = STEPS
        return math.log(self.error(sampler, few) / self.error(sampler, many)) / math.log(many / few)


def _grid(steps: int) -> Grid:
    """Even in log-SNR from t = 1 to `_END`."""
    process = LinearVP()
    first, last = (float(process.log_snr(torch.tensor(t, dtype=torch.float64))) for t in (1.0, _END))
    return Grid(process.t_of_logsnr(torch.linspace(first, last, steps + 1, dtype=torch.float64)))


def sampler_records(*, measured: bool = True) -> list[dict[str, Any]]:
    """A record for each named sampler: names, class, papers, order, calls of a step, whether it draws noise, its test.

    With `measured`, where it draws none: `slope`, its order as its errors tell it, and `error` at `NFE` network calls.
    """
    with _one_thread():
        ode = Ode.of_mixture() if measured else None
        return [{**names, **_measured(row.make(0.0), ode), "proof": row.proof} for row, names in _named(SAMPLERS)]


def _measured(sampler: Sampler, ode: Ode | None) -> dict[str, Any]:
    calls, stochastic = calls_of(sampler)
    facts = {"order": sampler.order, "calls": calls, "stochastic": stochastic}
    if ode is None or stochastic:
        return facts
    return {**facts, "slope": ode.order(sampler), "error": ode.error(sampler, NFE // calls)}


@contextmanager
def _one_thread() -> Iterator[None]:
    """For thousands of operations on a few numbers, which several threads only make slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def schedule_records() -> list[dict[str, Any]]:
    """A record for each named schedule: names, class, papers, whether it needs a noise table, its test."""
    records = []
    for row, names in _named(SCHEDULES):
        try:
            row.make(10)(LinearVE(1000.0))  # reaches every published level
            tables = False
        except UsageError:
            tables = True
        records.append({**names, "tables_only": tables, "proof": row.proof})
    return records


def unnamed(axis: str) -> list[Entry]:
    """The classes of samplers or schedules that no name stands for: parts of named ones, and what has to be fitted."""
    taken = {names["class"] for _, names in (_named(SAMPLERS) if axis == "samplers" else _named(SCHEDULES))}
    return [entry for entry in _entries(axis) if entry.kind == "class" and entry.name not in taken]


def _entries(axis: str) -> list[Entry]:
    """Grids of times are schedules, though they lie among the samplers."""
    return [e for e in entries("samplers") if (".samplers.grids." in e.module) is (axis == "schedules")]


def _named(rows: Sequence[Row]) -> Iterator[tuple[Row, dict[str, Any]]]:
    """Each row with its names here and elsewhere, its class, and that class's papers and chapter."""
    known = {entry.name: entry for entry in entries("samplers")}
    for row in rows:
        made = row.make(0.0) if isinstance(row, SamplerRow) else row.make(10)
        entry = known[type(made).__name__]
        elsewhere = {"a1111": list(row.a1111), "comfyui": list(row.comfy), "diffusers": list(row.diffusers)}
        paper = {"arxiv": list(entry.arxiv), "chapter": entry.chapter}
        yield row, {"name": row.name, **elsewhere, "class": entry.name, **paper}
