r"""Grids in noise level rho = sigma/alpha, for any process: they end with a step to clean data.

    LogSNR            log rho evenly                        "exponential"; Lu et al. 2022, arXiv 2206.00927, Sec. 3.4
    Polyexponential   log rho by a power of the way         K. Crowson's k-diffusion, 2022
    Karras            rho^(1/7) evenly                      Karras et al. 2022, arXiv 2206.00364, Eq. 5
    Beta              rho at quantiles of a beta law        Lee et al. 2024, arXiv 2407.12173, as the community has it
    KLOptimal         arctan rho evenly                     Sabour et al. 2024, arXiv 2404.14507, for Gaussian data

The ends are a table's first and last knot, else EDM's 0.002 and 80. Book: chapter 4, "Grids".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from huggingvis.core.grid import Grid
from huggingvis.core.process import Process
from huggingvis.samplers._beta_law import quantile
from huggingvis.samplers.grids._common import at_rho, check_steps, on_levels, rho_range, table_of


def _told(process: Process, rho: Tensor, rounded: bool, clean_end: bool = True) -> Grid:
    """The grid of the levels `rho` [N], with clocks rounded to a table's whole numbers and its end as asked."""
    end = 0.0 if clean_end else 1.0 / table_of(process, "clean_end=False").steps
    clocks = table_of(process, "rounded=True").clock(at_rho(process, rho)).round() if rounded else None
    return on_levels(process, rho, end, clocks)


@final
@dataclass(frozen=True)
class LogSNR:
    """Equal steps in log-SNR between two noise levels, then one to clean data; known as the exponential schedule.

    `rounded`, `clean_end`: as `Karras`. With whole numbers it is diffusers' `use_lu_lambdas`.
    """

    steps: int
    sigma_min: float | None = None
    sigma_max: float | None = None
    rounded: bool = False
    clean_end: bool = True

    def __post_init__(self) -> None:
        check_steps(self.steps)

    def __call__(self, process: Process) -> Grid:
        low, high = rho_range(process, self.sigma_min, self.sigma_max)
        log_rho = torch.linspace(math.log(high), math.log(low), self.steps, dtype=torch.float64)
        return _told(process, log_rho.exp(), self.rounded, self.clean_end)


@final
@dataclass(frozen=True)
class Polyexponential:
    """log rho_i = log min + (1 - i/(N-1))^p (log max - log min). `rho` is p; 1 is `LogSNR`."""

    steps: int
    rho: float = 1.0
    sigma_min: float | None = None
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        check_steps(self.steps)

    def __call__(self, process: Process) -> Grid:
        low, high = (math.log(r) for r in rho_range(process, self.sigma_min, self.sigma_max))
        way = torch.linspace(1, 0, self.steps, dtype=torch.float64) ** self.rho
        return on_levels(process, (low + way * (high - low)).exp(), 0.0)


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
        check_steps(self.steps)

    def __call__(self, process: Process) -> Grid:
        low, high = (r ** (1 / self.rho) for r in rho_range(process, self.sigma_min, self.sigma_max))
        ramp = torch.linspace(0, 1, self.steps, dtype=torch.float64)
        return _told(process, (high + ramp * (low - high)) ** self.rho, self.rounded, self.clean_end)


@final
@dataclass(frozen=True)
class Beta:
    """rho_i = min + q(1 - i/(N-1)) (max - min), q the quantiles of Beta(`alpha`, `beta`): many steps at both ends.

    As diffusers (`use_beta_sigmas`) and A1111 ("Beta") have it. The paper's, and ComfyUI's, are quantiles of the index:
    `knots.BetaIndex`. `clean_end`: as `Karras`.
    """

    steps: int
    alpha: float = 0.6
    beta: float = 0.6
    sigma_min: float | None = None
    sigma_max: float | None = None
    clean_end: bool = True

    def __post_init__(self) -> None:
        check_steps(self.steps)

    def __call__(self, process: Process) -> Grid:
        low, high = rho_range(process, self.sigma_min, self.sigma_max)
        shares = (1 - torch.linspace(0, 1, self.steps, dtype=torch.float64)).tolist()
        q = torch.tensor([quantile(p, self.alpha, self.beta) for p in shares], dtype=torch.float64)  # [N]
        return _told(process, low + q * (high - low), False, self.clean_end)


@final
@dataclass(frozen=True)
class KLOptimal:
    """arctan rho evenly: the levels that lose the least of KL divergence when the data are one Gaussian of variance 1.

    N levels and clean data, as ComfyUI has it. `open_end`: N + 1 levels of which the last is the end, as A1111 has it;
    the noise of the least level stays in the picture.
    """

    steps: int
    sigma_min: float | None = None
    sigma_max: float | None = None
    open_end: bool = False

    def __post_init__(self) -> None:
        check_steps(self.steps)

    def __call__(self, process: Process) -> Grid:
        low, high = (math.atan(r) for r in rho_range(process, self.sigma_min, self.sigma_max))
        way = torch.linspace(0, 1, self.steps + self.open_end, dtype=torch.float64)
        rho = torch.tan(way * low + (1 - way) * high)  # [N] or [N+1]
        if self.open_end:
            return on_levels(process, rho[:-1], float(at_rho(process, rho[-1])))
        return on_levels(process, rho, 0.0)
