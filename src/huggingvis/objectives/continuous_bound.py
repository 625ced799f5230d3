r"""The bound of a diffusion model in continuous time, or in T equal steps of time after a first one, with beta-tilde.

    prior   KL( q(x_last|x_0) || N(0, sigma_last^2) )
    steps   1/2 int E[ |x_0 - x^_0|^2 ] d SNR,     or     T/2 E_k[ (SNR(t_{k-1}) - SNR(t_k)) |x_0 - x^_0|^2 ]
    data    -log p(x_0|x_least),     p(x_0|.) from q alone

The integral is taken over log-SNR, so that it is the same for all processes with the same ends. Source: Kingma,
Salimans, Poole, Ho 2021 (arXiv 2107.00630, Sec. 4). Book: chapter 4, "Likelihood".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor

from huggingvis.core.process import Process
from huggingvis.core.protocols import Bound
from huggingvis.core.shapes import expand
from huggingvis.objectives.ledger import Ledger, believed, noised, prior_cost, strata
from huggingvis.objectives.observed import Lattice, Observed


class Integral(Protocol):
    """How the steps' integral is drawn: (times, weights of |x_0 - x^_0|^2 in nats), [B] each, at `u` [B] in [0, 1)."""

    def __call__(self, u: Tensor) -> tuple[Tensor, Tensor]: ...


@final
@dataclass(frozen=True)
class OverTime:
    """Times even between `least` and `last`, weights -SNR'/2: what a schedule is judged, and taught, by."""

    process: Process
    least: float
    last: float = 1.0

    def __call__(self, u: Tensor) -> tuple[Tensor, Tensor]:
        t = self.least + (self.last - self.least) * u
        a, s, (da, ds) = self.process.alpha(t), self.process.sigma(t), self.process.derivatives(t)
        return t, (self.last - self.least) * a * (a * ds - s * da) / s**3


@final
@dataclass(frozen=True)
class OverLogSNR:
    """Log-SNR even between the same ends, whatever the process makes of time."""

    process: Process
    least: float
    last: float = 1.0

    def __call__(self, u: Tensor) -> tuple[Tensor, Tensor]:
        ends = self.process.log_snr(torch.tensor([self.last, self.least], dtype=torch.float64, device=u.device))
        lam = ends[0] + (ends[1] - ends[0]) * u
        return self.process.t_of_logsnr(lam), 0.5 * (ends[1] - ends[0]) * lam.exp()


@final
@dataclass(frozen=True)
class InSteps:
    """The starts of `steps` equal steps of time from `last` to `least`: L_T."""

    process: Process
    steps: int
    least: float
    last: float = 1.0

    def __call__(self, u: Tensor) -> tuple[Tensor, Tensor]:
        k = (u * self.steps).floor().clamp(max=self.steps - 1)
        s, t = (self.least + (self.last - self.least) * i / self.steps for i in (k, k + 1))
        snr_s, snr_t = ((self.process.alpha(time) / self.process.sigma(time)) ** 2 for time in (s, t))
        return t, 0.5 * self.steps * (snr_s - snr_t)


@final
@dataclass(frozen=True)
class ContinuousBound:
    """The bound from `least` to `last` in continuous time, or in `depth` steps; where alpha(last) = 0, choose `last` a
    little below 1."""

    process: Process
    observed: Observed = Lattice()
    least: float = 1e-5
    last: float = 1.0
    depth: int | None = None

    def __call__(self, denoise: Bound, x: Tensor, rng: torch.Generator, draws: int = 10) -> Ledger:
        """`steps` by `draws` values, one from each of as many equal parts of the range of log-SNR, or of time."""
        steps = [self.step(denoise, x, *self.integral(row), rng) for row in strata(len(x), draws, rng)]
        return {"prior": self.prior(x), "steps": torch.stack(steps).mean(0), "data": self.data(x, rng)}

    @property
    def integral(self) -> Integral:
        """How the ledger draws its steps."""
        if self.depth is None:
            return OverLogSNR(self.process, self.least, self.last)
        return InSteps(self.process, self.depth, self.least, self.last)

    def step(self, denoise: Bound, x: Tensor, t: Tensor, weight: Tensor, rng: torch.Generator) -> Tensor:
        """`weight` |x_0 - x^_0|^2 of each datum at its own `t` [B], nats [B]."""
        off = x - believed(denoise, noised(self.process, x, t, rng), t).x0
        return (expand(weight, x) * off.square()).flatten(1).sum(1)

    def prior(self, x: Tensor) -> Tensor:
        """What it costs that pictures start from noise alone, nats [B]."""
        return prior_cost(self.process, x, self.last)

    def data(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """-log p(x_0|x_least), nats [B]: x_least/alpha is x_0 but for normal noise of known size."""
        t = torch.tensor(self.least, dtype=torch.float64)
        alpha, sigma = expand(self.process.alpha(t), x), expand(self.process.sigma(t), x)
        return -self.observed(x, noised(self.process, x, t, rng) / alpha, sigma / alpha)
