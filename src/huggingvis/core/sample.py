"""The one denoising loop: a sampler's steps along a grid of times.

What a sampler is stands in `core.sampler`, what a grid is in `core.grid`. Book: chapter 4, "The loop".
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, final

import torch
from torch import Tensor

from huggingvis.core.belief import Belief, Gaussian
from huggingvis.core.components import Components, Lockstep
from huggingvis.core.grid import Grid
from huggingvis.core.noise import Noise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Cond, Denoiser, OnStep, Step
from huggingvis.core.sampler import P, Sampler, Steps


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
