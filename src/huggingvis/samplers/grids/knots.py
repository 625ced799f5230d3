"""Grids of whole numbers, for tables: the indices that the community's schedulers choose.

    Trailing, Leading, Linspace   Lin et al. 2023, arXiv 2305.08891, Table 2
    Simple                        ComfyUI's and A1111's "simple"
    DDIMUniform                   ComfyUI's "ddim_uniform", A1111's "DDIM"
    BetaIndex                     Lee et al. 2024, arXiv 2407.12173, as ComfyUI's "beta"
    Distilled                     Luo et al. 2023, arXiv 2310.04378, Sec. 4.3: those that a distillation knew

Book: chapter 4, "Grids".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch

from huggingvis.core.errors import UsageError
from huggingvis.core.grid import Grid
from huggingvis.core.process import Process
from huggingvis.samplers._beta_law import quantile
from huggingvis.samplers.grids._common import at_rho, check_steps, on_knots, table_of, then


@final
@dataclass(frozen=True)
class Trailing:
    """Indices round(T - i T/N) - 1: begins at the last knot, pure noise. What zero-terminal-SNR models need.

    `clean_end`: end at t = 0 (the schedulers' `set_alpha_to_one`), else at the first knot.
    """

    steps: int
    clean_end: bool = True

    def __post_init__(self) -> None:
        check_steps(self.steps)

    def __call__(self, process: Process) -> Grid:
        table = table_of(process, "trailing", self.steps)
        # NumPy's arange, with which these numbers are made elsewhere, steps by this difference: it decides the ties
        step = (table.steps - table.steps / self.steps) - table.steps
        index = (table.steps + torch.arange(self.steps, dtype=torch.float64) * step).round() - 1
        return on_knots(table, index, self.clean_end)


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
        check_steps(self.steps)

    def __call__(self, process: Process) -> Grid:
        points = self.steps + 1 if self.open_end else self.steps
        table = table_of(process, "leading", points)
        index = torch.arange(points, dtype=torch.float64) * (table.steps // points)
        index = index.flip(0)[: self.steps] + self.offset
        if index[0] > table.steps - 1:
            raise UsageError(
                f"Leading spacing with {self.steps} steps and offset {self.offset} asks for index {int(index[0])}, but "
                f"the table ends at {table.steps - 1}. Use fewer steps or offset 0."
            )
        return on_knots(table, index, self.clean_end)


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
        check_steps(self.steps)

    def __call__(self, process: Process) -> Grid:
        points = self.steps + 1 if self.open_end else self.steps
        table = table_of(process, "linspace", points if self.rounded else 1)
        # upwards from 0 and then turned round, so that halves round as they do in NumPy's linspace
        gap = (table.steps - 1) / max(points - 1, 1)
        index = torch.arange(points, dtype=torch.float64) * gap
        index = index.flip(0)[: self.steps]
        if self.rounded:
            return on_knots(table, index.round(), self.clean_end)
        if not self.chord:
            only = points == 1  # k-diffusion counts down from T - 1, so that its one call is there, not at 0
            return on_knots(table, index + only * (table.steps - 1), self.clean_end)
        below = index.floor()
        above = (below + 1).clamp(max=table.steps - 1)
        rho_below, rho_above = (torch.exp(-table.log_snr(table.time_of_index(k)) / 2) for k in (below, above))
        rho = rho_below + (index - below) * (rho_above - rho_below)  # [N]
        return then(at_rho(table, rho), 0.0 if self.clean_end else 1.0 / table.steps, index)


@final
@dataclass(frozen=True)
class Simple:
    """Indices T - 1 - floor(i T/N): begins at the last knot, its gaps are even up to rounding down."""

    steps: int

    def __post_init__(self) -> None:
        check_steps(self.steps)

    def __call__(self, process: Process) -> Grid:
        table = table_of(process, "simple", self.steps)
        gap = table.steps / self.steps
        index = torch.tensor([table.steps - 1 - int(i * gap) for i in range(self.steps)], dtype=torch.float64)
        return on_knots(table, index, clean_end=True)


@final
@dataclass(frozen=True)
class DDIMUniform:
    """Every floor(T/N)-th index from 1 as far as there are any: more than N of them where N does not divide T.

    `clean_end`: end at t = 0, as the schedule "DDIM" does; A1111's samplers DDIM and PLMS end at the first knot.
    """

    steps: int
    clean_end: bool = True

    def __post_init__(self) -> None:
        check_steps(self.steps)

    def __call__(self, process: Process) -> Grid:
        table = table_of(process, "ddim-uniform", self.steps)
        index = torch.arange(1, table.steps, table.steps // self.steps, dtype=torch.float64).flip(0)
        return on_knots(table, index, self.clean_end)


@final
@dataclass(frozen=True)
class BetaIndex:
    """Indices round((T - 1) q(1 - i/N)), q the quantiles of Beta(`alpha`, `beta`); where two are equal there is one."""

    steps: int
    alpha: float = 0.6
    beta: float = 0.6

    def __post_init__(self) -> None:
        check_steps(self.steps)

    def __call__(self, process: Process) -> Grid:
        table = table_of(process, "beta-index", self.steps)
        shares = (1 - i / self.steps for i in range(self.steps))
        q = torch.tensor([quantile(p, self.alpha, self.beta) for p in shares], dtype=torch.float64)
        return on_knots(table, ((table.steps - 1) * q).round().unique().flip(0), clean_end=True)


@final
@dataclass(frozen=True)
class Distilled:
    """N of the `known` even indices k T/known - 1 that a distilled network was taught, evenly spaced and from the top.

    From a picture with strength s the last floor(N s) of these are walked, as with every grid. `LCMScheduler` of
    diffusers counts otherwise there: it spreads all N steps over the lowest floor(`known` s) indices.
    Raises `UsageError` where that are fewer than N.
    """

    steps: int
    known: int = 50

    def __post_init__(self) -> None:
        check_steps(self.steps)

    def __call__(self, process: Process) -> Grid:
        table = table_of(process, "distilled", self.known)
        if self.steps > self.known:
            raise UsageError(
                f"This model was distilled to {self.known} noise levels, but {self.steps} steps are asked for. It is "
                "made for 1 to 8 steps."
            )
        gap = table.steps // self.known
        taught = torch.arange(self.known, 0, -1, dtype=torch.float64) * gap - 1  # [known], falling
        chosen = (torch.arange(self.steps, dtype=torch.float64) * (self.known / self.steps)).floor().long()
        return on_knots(table, taught[chosen], clean_end=True)
