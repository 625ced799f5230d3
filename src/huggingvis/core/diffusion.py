"""From a raw network to a denoiser, and from a denoiser to a generative model.

`NetDenoiser` turns `net(x, clock, cond)` into a belief about x_0; `Diffusion` adds grid, sampler and guidance and so
makes samples. Both are independent of what the network is and of what space it works in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, final, runtime_checkable

import torch
from torch import Tensor, nn

from huggingvis.core.belief import Belief
from huggingvis.core.grid import Grid
from huggingvis.core.noise import Noise
from huggingvis.core.process import Prediction, Process
from huggingvis.core.protocols import Cond, Denoiser, Guidance, OnStep
from huggingvis.core.sample import sample
from huggingvis.core.sampler import Sampler
from huggingvis.core.shapes import expand, per_sample

FROM_LOOP = ("clock", "estimate", "step")
"""What `core.sample` tells denoisers; a net hears of it through what is made of it here and in self-conditioning."""


@final
class NetDenoiser:
    """The denoiser of a network that was trained on `process` to predict `prediction`.

    The net runs in its own dtype; the belief comes back in the dtype of `x`, at least float32. Numbers of the
    condition, one for each sample, stay as exact as they are, like the clock: nets make waves of them.
    """

    def __init__(self, net: nn.Module, process: Process, prediction: Prediction):
        self.net, self.process, self.prediction = net, process, prediction

    def __call__(self, x: Tensor, t: Tensor, cond: Cond) -> Belief:
        dtype = next(self.net.parameters()).dtype
        wide = torch.promote_types(x.dtype, torch.float32)
        clock = self.prediction.clock(self.process, t, cond.get("clock"))  # [] or [B], where t is: exact in float64
        inner = {
            k: v.to(dtype) if v.is_floating_point() and v.ndim > 1 else v for k, v in cond.items() if k not in FROM_LOOP
        }
        x = x.to(dtype=wide)
        given = self.prediction.given(self.process, x, t).to(dtype=dtype)  # [B, ...]
        out = self.net(given, per_sample(clock.to(dtype=torch.float32), x), inner)  # [B, ...]
        return self.prediction.belief(self.process, out.to(dtype=wide), x, t)


def compose(denoise: Denoiser, guidance: tuple[Guidance, ...]) -> Denoiser:
    """Wrap `denoise` in guidances, left to right: the first is nearest to the network."""
    for g in guidance:
        denoise = g(denoise)
    return denoise


@runtime_checkable
class Diffuses(Protocol):
    """A generative model whose samples come from a diffusion, whatever else it tells."""

    @property
    def diffusion(self) -> Diffusion: ...


class End(Protocol):
    """The law of what a process leaves of data at t = 1, where that is not nothing."""

    def __call__(self, like: Tensor, noise: Noise) -> Tensor:
        """Draws of D(x_0, 1) with shape, dtype and device of `like` [B, ...]."""
        ...


AFTER = "after."
"""The prefix of what a `Successor` is told."""


@final
@dataclass(frozen=True)
class Successor:
    """A second denoiser, guided, for the steps after the first that begins below the time `at`.

    It goes on in the same space, on the same process and grid; a sampler's history begins anew with it. It is told the
    entries of the condition under `after.`, without the prefix.
    """

    denoise: Denoiser
    at: float

    def parts(self, grid: Grid) -> tuple[Grid | None, Grid | None]:
        """What is walked before and after it takes over; None where that is no step."""
        late = (grid.times[:-1] < self.at).nonzero()
        n = int(late[0]) if len(late) else len(grid)
        clocks = (None, None) if grid.clocks is None else (grid.clocks[:n], grid.clocks[n:])
        first = Grid(grid.times[: n + 1], clocks[0]) if n else None
        return first, Grid(grid.times[n:], clocks[1]) if n < len(grid) else None


@final
@dataclass(frozen=True)
class Diffusion:
    """A generative model: a denoiser on a process, sampled on a grid. `shape` is one sample's, without the batch.

    `prior` draws what a condition leaves open before the first step, as a layout for a sentence; None: nothing is open.
    `end`: what is left of data at the first time; None: nothing. `unit`: the first noise has deviation 1 where sigma(t)
    is a little less, as programs begin whose tables end before pure noise. `then`: what takes over on the way.
    """

    denoise: Denoiser
    process: Process
    shape: tuple[int, ...]
    sampler: Sampler
    grid: Callable[[Process], Grid]
    guidance: tuple[Guidance, ...] = ()
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    prior: Callable[[Cond, Noise], Cond] | None = None
    end: End | None = None
    unit: bool = False
    then: Successor | None = None

    @property
    def diffusion(self) -> Diffusion:
        return self

    def start(self, n: int, grid: Grid, noise: Noise) -> Tensor:
        """x at the grid's first time when nothing is known of x_0: a draw of what is left of it, and sigma(t) eps."""
        empty = torch.empty(n, *self.shape, device=self.device)
        x = noise.draw(empty)
        x = x if self.unit else x * expand(self.process.sigma(grid.times[0]), empty)
        return x if self.end is None else x + self.end(empty, noise)

    def condition(self, cond: Cond, noise: Noise) -> Cond:
        """`cond` with what it leaves open drawn; for whoever walks the denoiser without `sample`."""
        return cond if self.prior is None else self.prior(cond, noise)

    def sample(self, n: int, cond: Mapping[str, Tensor], *, noise: Noise, on_step: OnStep | None = None) -> Tensor:
        """`n` samples [n, *shape]."""
        grid = self.grid(self.process.pace)
        x = self.start(n, grid, noise)
        return self.walk(x, grid, self.condition(cond, noise), noise=noise, on_step=on_step)

    def walk(self, x: Tensor, grid: Grid, cond: Cond, *, noise: Noise, on_step: OnStep | None = None) -> Tensor:
        """From x, noisy at the grid's first time, to its last, guided; `cond` leaves nothing open."""
        denoise = compose(self.denoise, self.guidance)
        if self.then is None:
            return sample(denoise, self.process, self.sampler, x, grid, cond, noise=noise, on_step=on_step)
        told = {k.removeprefix(AFTER): v for k, v in cond.items() if k.startswith(AFTER)}
        own = {k: v for k, v in cond.items() if not k.startswith(AFTER)}
        done = levels = 0
        for part, who, what in zip(self.then.parts(grid), (denoise, self.then.denoise), (own, told), strict=True):
            if part is not None:
                hears = None if on_step is None else _later(on_step, done, len(grid))
                heard = _counting_on(who, levels)
                x = sample(heard, self.process, self.sampler, x, part, what, noise=noise, on_step=hears)
                done, levels = done + len(part), levels + len(set(part.times[:-1].tolist()))
        return x


def _counting_on(denoise: Denoiser, passed: int) -> Denoiser:
    """`denoise`, told its step as one of the whole walk, of which others went through `passed` levels before."""

    def further(x: Tensor, t: Tensor, cond: Cond) -> Belief:
        return denoise(x, t, {**cond, "step": cond["step"] + passed} if "step" in cond else cond)

    return further if passed else denoise


def _later(on_step: OnStep, done: int, total: int) -> OnStep:
    """Tells `on_step` of steps that come after `done` others, of `total`."""
    return lambda step: on_step(replace(step, index=step.index + done, total=total))
