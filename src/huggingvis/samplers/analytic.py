r"""Analytic-DPM: the best variance of every reverse step, and the best times, told by the model's own noise estimates.

Bao, Li, Zhu, Zhang 2022, arXiv 2201.06503. Averaged over x_t, a model's mean square noise estimate tells how sure it is
of x_0, since by the law of total variance E|eps|^2 = E|E[eps | x_t]|^2 + E Var[eps | x_t] (Theorem 1):

    Gamma_t = E|eps_theta(x_t)|^2/d,        Var[x_0 | x_t] = (sigma_t/alpha_t)^2 (1 - Gamma_t)
    sigma*^2 = beta-tilde + g^2 Var[x_0 | x_t],   g = alpha_s beta/sigma_t^2

Bounds (Theorem 2): 0 <= Var[x_0 | x_t] <= (sigma_t/alpha_t)^2, and <= ((b - a)/2)^2 for data in [a, b]. The divergence
of K steps is a sum over them, d/2 sum log(sigma*^2/beta-tilde) (Theorem 3), so dynamic programming finds the K times
out of N for which it is least (Sec. 4.1). Nothing is trained. Book: chapter 4, "Analytic-DPM".
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from huggingvis.core.belief import Gaussian
from huggingvis.core.errors import UsageError
from huggingvis.core.grid import Grid
from huggingvis.core.process import Process
from huggingvis.core.protocols import Bound
from huggingvis.samplers._levels import Levels, clean, levels
from huggingvis.samplers.variances import Variance


@final
@dataclass(frozen=True)
class Analytic(Variance):
    """`gammas` at rising `times`, linear between them. `limit`: (b - a)/2 of the data, 1 for pictures in [-1, 1].

    Raises `UsageError` at times that lie outside of those it was fitted at.
    """

    times: tuple[float, ...]
    gammas: tuple[float, ...]
    limit: float = math.inf

    def __call__(self, c: Levels, t: Tensor, belief: Gaussian) -> float:
        return self.of_step(c, float(t))

    def of_step(self, c: Levels, t: float) -> float:
        """sigma*^2 of a step from `t` with the coefficients `c`."""
        spread = min((c.s_t / c.a_t) ** 2 * (1 - self.gamma(t)), self.limit**2)
        return c.fresh * c.kept + c.pull**2 * max(spread, 0.0)

    def gamma(self, t: float) -> float:
        """Gamma at `t`."""
        if not self.times[0] - 1e-9 <= t <= self.times[-1] + 1e-9:
            raise UsageError(
                f"This variance was fitted at times from {self.times[0]:g} to {self.times[-1]:g} and knows nothing of "
                f"{t:g}. Fit it at all times of the grid."
            )
        j = min(max(bisect_right(self.times, t), 1), len(self.times) - 1)
        if len(self.times) == 1:
            return self.gammas[0]
        share = (t - self.times[j - 1]) / (self.times[j] - self.times[j - 1])
        return self.gammas[j - 1] + share * (self.gammas[j] - self.gammas[j - 1])


@torch.no_grad()
def fit_analytic(
    denoise: Bound,
    process: Process,
    x0: Tensor,
    times: Tensor,
    rng: torch.Generator,
    *,
    limit: float = math.inf,
    on_level: Callable[[int], None] | None = None,
) -> Analytic:
    """`Analytic` for the model `denoise`, from data `x0` [B, ...] noised at each of `times` [N], which rise.

    The more data, the better: two passes of the model over them for each time, with noise of both signs. The mean
    square of that noise, which is known to be 1, serves as a control variate: near t = 1 what is sought, 1 - Gamma, is
    far smaller than the plain estimate's error. `on_level` hears how many times are done.

    A network is not quite the mean that Theorem 1 is about, and where the noise is large a small error of Gamma is a
    large one of Var[x_0 | x_t]. What is kept is nearest to the estimates among all that rise with the noise, as the
    true one does, for x_t tells less than x_s does, and that stay below the variance of the data.
    """
    gammas: list[float] = []
    for t in times.double():
        eps = torch.randn(x0.shape, generator=rng, device=rng.device, dtype=x0.dtype).to(x0.device)
        told = torch.zeros_like(x0, dtype=torch.promote_types(x0.dtype, torch.float32))
        for sign in (1.0, -1.0):
            x = process.add_noise(x0, sign * eps, t)
            told += process.eps(x, clean(denoise(x, t)), t).square() / 2
        drawn = eps.square() - 1
        share = ((told - told.mean()) * drawn).mean() / drawn.square().mean()  # the slope of told on drawn
        gammas.append(float(told.mean() - share * drawn.mean()))
        if on_level is not None:
            on_level(len(gammas))
    noise = (process.sigma(times.double()) / process.alpha(times.double()).clamp(min=1e-6)) ** 2  # [N]
    spread = rising(noise * (1 - torch.tensor(gammas, dtype=torch.float64)), noise**-2).clamp(min=0.0)
    if len(x0) > 1:
        spread = spread.clamp(max=float(x0.double().var(0).mean()))
    return Analytic(tuple(times.tolist()), tuple((1 - spread / noise).tolist()), limit)


def rising(values: Tensor, weights: Tensor) -> Tensor:
    """The sequence nearest to `values` [N], in squares with positive `weights` [N], that nowhere falls.

    By pooling neighbours that fall into their mean (Ayer et al. 1955).
    """
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        count = 1
        while pools and pools[-1][0] >= value:
            before, heavy, many = pools.pop()
            value = (before * heavy + value * weight) / (heavy + weight)
            weight, count = heavy + weight, count + many
        pools.append((value, weight, count))
    return torch.cat([torch.full((count,), mean, dtype=values.dtype) for mean, _, count in pools])


@final
@dataclass(frozen=True)
class OptimalTimes:
    """The schedule of `steps` calls, among the times that `variance` was fitted at, of the least divergence.

    First call at the last of the times, last call at the first of them, then clean data.
    """

    steps: int
    variance: Analytic

    def __post_init__(self) -> None:
        if not 2 <= self.steps <= len(self.variance.times):
            raise UsageError(
                f"The best times are chosen among the {len(self.variance.times)} that the variance was fitted at: ask "
                f"for 2 to {len(self.variance.times)} steps, not {self.steps}."
            )

    def __call__(self, process: Process) -> Grid:
        cost = step_costs(self.variance, process)
        chosen = least_path(cost, self.steps)
        times = [self.variance.times[i] for i in reversed(chosen)]
        return Grid(torch.tensor([*times, 0.0], dtype=torch.float64))


def step_costs(variance: Analytic, process: Process) -> Tensor:
    """J[i, j] = log(sigma*^2/beta-tilde) of the step from time j to time i < j, [N, N]; infinite elsewhere."""
    times = torch.tensor(variance.times, dtype=torch.float64)
    cost = torch.full((len(times), len(times)), math.inf, dtype=torch.float64)
    for j in range(1, len(times)):
        for i in range(j):
            c = levels(process, times[j], times[i])
            cost[i, j] = math.log(variance.of_step(c, variance.times[j]) / (c.fresh * c.kept))
    return cost


def least_path(cost: Tensor, points: int) -> Sequence[int]:
    """`points` indices that rise from 0 to N - 1, with the least sum of `cost[i, j]` over neighbours; [N, N]."""
    best = torch.full((len(cost),), math.inf, dtype=torch.float64)
    best[0] = 0.0
    came = []
    for _ in range(points - 1):
        best, back = (best[:, None] + cost).min(0)  # [N]: the least cost of reaching each, and from where
        came.append(back)
    path = [len(cost) - 1]
    for back in reversed(came):
        path.append(int(back[path[-1]]))
    return path[::-1]
