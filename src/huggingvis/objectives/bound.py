r"""The ledger of the variational bound: what each part of a diffusion model's code for a datum costs.

In T steps (Ho, Jain, Abbeel 2020, arXiv 2006.11239, Eq. 5-8 and 13; Nichol & Dhariwal 2021, arXiv 2102.09672, Eq. 4-7),
for the times 0 = t_0 < t_1 < ... < t_T of any process:

    prior   L_T      = KL( q(x_T|x_0) || N(0, sigma_T^2) )
    steps   L_{k-1}  = KL( q(x_{k-1}|x_k, x_0) || p(x_{k-1}|x_k) ),  k = 2..T        p's mean from the believed x_0
    data    L_0      = -log p(x_0|x_1)

In continuous time (Kingma, Salimans, Poole, Ho 2021, arXiv 2107.00630, Sec. 4; the integral taken over log-SNR, so that
it is the same for all processes with the same ends), or in T equal steps of time after a first one, with beta-tilde:

    steps   1/2 int E[ |x_0 - x^_0|^2 ] d SNR,     data  -log p(x_0|x_least),     p(x_0|.) from q alone
    L_T     T/2 E_k[ (SNR(t_{k-1}) - SNR(t_k)) |x_0 - x^_0|^2 ]

-log p(x_0) <= prior + steps + data. The prior is what samples start from (N(0, I) for DDPM, whose sigma_T^2 is 1 to
4e-5; its KL differs by 1e-9). Book: chapter 4, "Likelihood".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor

from huggingvis.core.belief import Gaussian
from huggingvis.core.process import Process
from huggingvis.core.protocols import Bound
from huggingvis.core.shapes import double, expand, widest

Ledger = dict[str, Tensor]
"""`prior`, `steps` and `data` of each datum, nats [B]; their sum bounds -log p from above."""


class Observed(Protocol):
    """What a datum is: log-probability of x [B, ...] where its number is normal with `mean` [B, ...] and `std`, [] or
    one of each number."""

    def __call__(self, x: Tensor, mean: Tensor, std: Tensor) -> Tensor: ...


def density(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """A real number: log N(x; mean, std^2), [B]."""
    each = -0.5 * ((x - mean) / std) ** 2 - torch.log(std * math.sqrt(2 * math.pi))
    return each.flatten(1).sum(1)


@final
@dataclass(frozen=True)
class Levels:
    """One of `count` values evenly over [-1, 1]: the mass of its bin, the outermost bins reaching on for ever (Ho et
    al. 2020, Eq. 13). It is a probability, so bits need no dequantisation."""

    count: int = 256

    def __call__(self, x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        half = 1 / (self.count - 1)
        above, below = (x + half - mean) / std, (x - half - mean) / std
        # a bin above the mean is mirrored below it, where the distribution function keeps its digits
        flip = above + below > 0
        upper, lower = torch.where(flip, -below, above), torch.where(flip, -above, below)
        log_upper = torch.special.log_ndtr(upper)
        inside = log_upper + torch.log(-torch.expm1((torch.special.log_ndtr(lower) - log_upper).clamp(max=-1e-12)))
        least, most = x < -1 + half, x > 1 - half
        ends = torch.where(least, torch.special.log_ndtr(above), torch.special.log_ndtr(-below))
        return torch.where(least | most, ends, inside).flatten(1).sum(1)


@final
@dataclass(frozen=True)
class Lattice:
    """One of `count` values evenly over [-1, 1], told from x_least alone: p(x_0|x_least) is q(x_least|x_0), normalised
    over the values (Kingma et al. 2021, Sec. 3.3). Values too far off to count in float64 are left out of the sum."""

    count: int = 256

    def __call__(self, x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        gap = 2 / (self.count - 1)
        place = ((x + 1) / gap).round()
        off, spread = (mean - (place * gap - 1)) / gap, std / gap
        reach = math.ceil(float(off.detach().abs().max()) + 12 * float(spread.detach().max()))
        total = torch.zeros_like(off)  # log of the sum of exp(-((off - j)^2 - off^2)/(2 spread^2)): of j = 0
        for j in range(1, min(reach, self.count - 1) + 1):
            for way, there in ((j, place + j < self.count), (-j, place >= j)):
                term = (2 * way * off - j**2) / (2 * spread**2)
                total = torch.logaddexp(total, torch.where(there, term, -math.inf))
        return -total.flatten(1).sum(1)


def prior_cost(process: Process, x: Tensor, last: float = 1.0) -> Tensor:
    """KL(q(x_T|x_0) || N(0, sigma_T^2)) = alpha_T^2 |x_0|^2/(2 sigma_T^2), nats [B]."""
    a, s = process.coefficients(torch.tensor(last, dtype=torch.float64), x)
    return 0.5 * (a / s) ** 2 * x.flatten(1).square().sum(1)


def _noised(process: Process, x: Tensor, t: Tensor, rng: torch.Generator) -> Tensor:
    return process.add_noise(x, torch.randn(x.shape, generator=rng, device=rng.device, dtype=x.dtype).to(x.device), t)


def _believed(denoise: Bound, x: Tensor, t: Tensor) -> Gaussian:
    belief = denoise(x, t)
    if not isinstance(belief, Gaussian):
        raise TypeError(f"this ledger is of models of continuous data, found a {type(belief).__name__} belief")
    return belief


def _strata(n: int, draws: int, rng: torch.Generator) -> Tensor:
    """[draws, n] float64 numbers in [0, 1): for each of `n` data one from each of `draws` equal parts."""
    u = double(torch.rand(draws, n, generator=rng, device=rng.device, dtype=widest(rng.device))).cpu()
    return (u + torch.arange(draws, dtype=torch.float64)[:, None]) / draws


def over_steps(
    step: Callable[[Tensor], Tensor],
    steps: range,
    x: Tensor,
    rng: torch.Generator,
    draws: int,
    share: Tensor | None = None,
) -> Tensor:
    """The sum of `step(k)` [B] over all `steps` k, for each datum of x [B, ...] by `draws` of them; where there are no
    more, all of them, each once.

    Steps are drawn as often as `share` [len(steps)] guesses that they make up the sum, all alike without one, and count
    the less for it; each draw is from its own of `draws` parts that are drawn equally often. A guess far off makes the
    error larger, not the mean: each step has a tenth of the chance that it would have without one.
    """
    if not steps:
        return torch.zeros(len(x), device=x.device)
    k = torch.tensor(steps)
    if draws >= len(steps):
        return torch.stack([step(row) for row in k[:, None].expand(-1, len(x))]).sum(0)
    even = torch.full((len(steps),), 1 / len(steps), dtype=torch.float64)
    p = even if share is None else 0.9 * double(share).cpu() / double(share).sum().cpu() + 0.1 * even
    drawn = torch.searchsorted(p.cumsum(0), _strata(len(x), draws, rng), right=True).clamp(max=len(steps) - 1)
    costs = ((row, step(k[row])) for row in drawn)
    return torch.stack([cost / p[row].to(cost) for row, cost in costs]).mean(0)


@final
@dataclass(frozen=True)
class DiscreteBound:
    """The bound of the chain whose steps are those of `samplers.ancestral` between `times` [T + 1], rising from 0.

    A belief may tell its variance, by `logvar` or `v` (`samplers.variances`). Where it does not, `v` is that of the
    steps, 0 for beta-tilde, 1 for beta (Nichol & Dhariwal's Eq. 15, fixed); the last step, where beta-tilde is 0, takes
    the one before it, as theirs does. Where data have a density, beta is right for the small noises, and only with it
    does the bound become tight with more steps.
    """

    process: Process
    times: Tensor
    observed: Observed = Levels()
    v: float = 1.0

    def __call__(self, denoise: Bound, x: Tensor, rng: torch.Generator, draws: int = 10) -> Ledger:
        """`steps` by `draws` of the T - 1 of them; all of them, each once, where there are no more."""
        return {
            "prior": prior_cost(self.process, x, float(self.times[-1])),
            "steps": over_steps(
                lambda k: self.step(denoise, x, k, rng), range(2, len(self.times)), x, rng, draws, self.share
            ),
            "data": self.data(denoise, x, rng),
        }

    @property
    def share(self) -> Tensor:
        """How the steps 2..T share their sum, as a guess, [T - 1] float64: by what each tells of a datum from N(0, I),
        1/2 log(1 + SNR) at its end less that at its start. Of 1,000 steps the first dozen cost as much as all others,
        and drawn evenly they would be missed."""
        told = torch.nn.functional.softplus(self.process.log_snr(self.times[1:]))
        return told[:-1] - told[1:]

    def step(self, denoise: Bound, x: Tensor, k: Tensor, rng: torch.Generator) -> Tensor:
        """L_{k-1} of each datum for its own `k` [B] in 2..T, nats [B]."""
        t = self.times[k]
        return self.divergence(x, _believed(denoise, _noised(self.process, x, t, rng), t), k)

    def data(self, denoise: Bound, x: Tensor, rng: torch.Generator) -> Tensor:
        """L_0 of each datum, nats [B]."""
        t = self.times[1]
        return self.decoded(x, _believed(denoise, _noised(self.process, x, t, rng), t))

    def divergence(self, x: Tensor, belief: Gaussian, k: Tensor) -> Tensor:
        """L_{k-1} of data x [B, ...] under the belief at the times `k` [B], nats [B].

        The two means differ by g (x_0 - x^_0), g = alpha_s beta/sigma_t^2 (`samplers.variances`).
        """
        pull, beta, tilde = self._chain(k)
        gain = expand(pull**2 / tilde, x)
        if belief.logvar is None:
            wider = self._v(x, belief) * expand((beta / tilde).log(), x)  # log of the model's variance over beta-tilde
        else:
            wider = torch.log1p(gain * belief.logvar.exp())
        gap = gain * (x - belief.x0) ** 2
        # each of d and expm1(-d) keeps its digits where the two variances are nearly one
        return 0.5 * (wider + torch.expm1(-wider) + gap * torch.exp(-wider)).flatten(1).sum(1)

    def decoded(self, x: Tensor, belief: Gaussian) -> Tensor:
        """L_0 of data x [B, ...] under the belief at the first time, nats [B]."""
        if belief.logvar is not None:
            return -self.observed(x, belief.x0, torch.exp(belief.logvar / 2))
        beta = self._chain(torch.tensor(1))[1].log()
        tilde = self._chain(torch.tensor(2))[2].log() if len(self.times) > 2 else beta
        v = self._v(x, belief)
        return -self.observed(x, belief.x0, torch.exp((v * expand(beta, x) + (1 - v) * expand(tilde, x)) / 2))

    def _v(self, x: Tensor, belief: Gaussian) -> Tensor:
        return torch.full((), self.v, dtype=x.dtype, device=x.device) if belief.v is None else belief.v

    def _chain(self, k: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(g, beta, beta-tilde) of the steps from the times `k` [] or [B] to the ones before, float64."""
        times = self.times.to(k.device)
        t, s = times[k], times[k - 1]
        a_t, s_t, a_s, s_s = self.process.alpha(t), self.process.sigma(t), self.process.alpha(s), self.process.sigma(s)
        beta = s_t**2 - (a_t / a_s * s_s) ** 2
        return a_s * beta / s_t**2, beta, beta * s_s**2 / s_t**2


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
        steps = [self.step(denoise, x, *self.integral(row), rng) for row in _strata(len(x), draws, rng)]
        return {"prior": self.prior(x), "steps": torch.stack(steps).mean(0), "data": self.data(x, rng)}

    @property
    def integral(self) -> Integral:
        """How the ledger draws its steps."""
        if self.depth is None:
            return OverLogSNR(self.process, self.least, self.last)
        return InSteps(self.process, self.depth, self.least, self.last)

    def step(self, denoise: Bound, x: Tensor, t: Tensor, weight: Tensor, rng: torch.Generator) -> Tensor:
        """`weight` |x_0 - x^_0|^2 of each datum at its own `t` [B], nats [B]."""
        off = x - _believed(denoise, _noised(self.process, x, t, rng), t).x0
        return (expand(weight, x) * off.square()).flatten(1).sum(1)

    def prior(self, x: Tensor) -> Tensor:
        """What it costs that pictures start from noise alone, nats [B]."""
        return prior_cost(self.process, x, self.last)

    def data(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """-log p(x_0|x_least), nats [B]: x_least/alpha is x_0 but for normal noise of known size."""
        t = torch.tensor(self.least, dtype=torch.float64)
        alpha, sigma = expand(self.process.alpha(t), x), expand(self.process.sigma(t), x)
        return -self.observed(x, _noised(self.process, x, t, rng) / alpha, sigma / alpha)


Bounds = Callable[[Bound, Tensor, torch.Generator, int], Ledger]
"""Either of them."""


def in_bits(ledger: Ledger, dims: int) -> Ledger:
    """A ledger of nats in bits per number, with its sum as `bits_per_dim`."""
    bits = {name: nats / (dims * math.log(2)) for name, nats in ledger.items()}
    return {"bits_per_dim": torch.stack(list(bits.values())).sum(0), **bits}
