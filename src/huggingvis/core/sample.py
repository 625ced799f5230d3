"""The one denoising loop, the grid of times it walks, and what a sampler is.

Every sampler of the library is a frozen dataclass of numbers with two methods (`init`, `step`); its history is a value
that the loop carries, so a step is a pure function and can be replayed, differentiated or run backwards.
Book: chapter 4, "The loop".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, TypeVar, final

import torch
from torch import Tensor

from huggingvis.core.belief import Belief, Gaussian
from huggingvis.core.components import Components, Lockstep
from huggingvis.core.noise import Noise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Bound, Cond, Denoiser, OnStep, Step

State = Any
"""A sampler's history between steps: `None`, or a tuple of tensors and times. Never mutated."""


SAME = 1e-12
"""Times that differ by less of themselves are one: made from one level in two ways they differ by up to 4e-15."""


class Renoises(Protocol):
    """What the loop itself asks of a process, of numbers (`core.process`) or of classes (`core.categorical`)."""

    def renoise(self, x: Tensor, t: Tensor, s: Tensor, eps: Tensor) -> Tensor: ...


P = TypeVar("P", bound=Renoises)
Walked = TypeVar("Walked", bound=Renoises, contravariant=True)


class Steps(Protocol[Walked]):
    """What the loop asks of a sampler, on the kind of process that it walks."""

    def init(self) -> State: ...

    def step(
        self, denoise: Bound, process: Walked, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]: ...


class Sampler(ABC):
    """Integrates belief into a sample. Subclasses are frozen dataclasses; `order` is their order of convergence.

    `plain`: it reads no more of a process than `signal` and `sigma`, and so runs on a `Degradation` too.
    """

    order: int
    plain: bool = False

    def init(self) -> State:
        """History before the first step."""
        return None

    @abstractmethod
    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        """From x_t to x_s, s < t. `t` and `s` are 0-dim float64 CPU tensors."""


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


def sample(
    denoise: Denoiser,
    process: P,
    sampler: Steps[P],
    x: Tensor,
    grid: Grid,
    cond: Cond,
    *,
    noise: Noise,
    on_step: OnStep | None = None,
) -> Tensor:
    """Walk `x` [B, ...], noisy at `grid.times[0]`, along the grid; returns x at the last time.

    What the loop itself knows is told under `clock` (the grid's) and `estimate` (x_0 of the call before); and, where
    `cond` has a `step`, under that name how many of the grid's levels lie above the step's, [B].
    """
    bound, walker = _BoundDenoiser(denoise, grid, cond, x), _walker(process, sampler)
    state, moments = walker.init(), grid.times.tolist()
    with process.walked(grid.times) if isinstance(process, Process) else nullcontext():
        for i, (t, s) in enumerate(grid.pairs()):
            bound.begin(i, moments[i])
            if moments[i + 1] > moments[i]:
                x, state = process.renoise(x, t, s, noise.draw(x)), walker.init()
            else:
                x, state = walker.step(bound, process, x, t, s, state, noise)
            if on_step is not None:
                on_step(Step(i, len(grid), moments[i], moments[i + 1], x, bound.first))
    return x


@final
class _BoundDenoiser:
    """`Bound` of `core.protocols`: a denoiser with its condition and what the loop knows.

    `first`: its belief at the start of the present step; `last`: at the last call of any.
    """

    def __init__(self, denoise: Denoiser, grid: Grid, cond: Cond, x: Tensor):
        self.denoise, self.cond, self.clocks = denoise, cond, grid.clock_table(x)
        self.ranks = grid.ranks() if "step" in cond else {}
        self.number = 0
        self.first: Belief | None = None
        self.last: Belief | None = None

    def begin(self, i: int, moment: float) -> None:
        """Step `i`, from the time `moment`."""
        self.number, self.first = self.ranks.get(moment, i), None

    def __call__(self, x: Tensor, t: Tensor) -> Belief:
        known: dict[str, Tensor] = {}
        if self.clocks and (clock := self.clocks.get(float(t))) is not None:
            known["clock"] = clock
        if isinstance(self.last, Gaussian):
            known["estimate"] = self.last.x0
        if "step" in self.cond:
            known["step"] = torch.full_like(self.cond["step"], self.number)
        self.last = self.denoise(x, t, {**self.cond, **known})
        if self.first is None:
            self.first = self.last
        return self.last


def _walker(process: object, sampler: Steps[Any]) -> Steps[Any]:
    """What takes the steps: the sampler, in each part of a process of several."""
    if not isinstance(process, Components):
        return sampler
    assert isinstance(sampler, Sampler)  # what else walks numbers
    return Lockstep(sampler)
