r"""The ledger of the variational bound: what each part of a diffusion model's code for a datum costs.

In T steps (Ho, Jain, Abbeel 2020, arXiv 2006.11239, Eq. 5-8 and 13; Nichol & Dhariwal 2021, arXiv 2102.09672, Eq. 4-7),
for the times 0 = t_0 < t_1 < ... < t_T of any process:

    prior   L_T      = KL( q(x_T|x_0) || N(0, sigma_T^2) )
    steps   L_{k-1}  = KL( q(x_{k-1}|x_k, x_0) || p(x_{k-1}|x_k) ),  k = 2..T        p's mean from the believed x_0
    data    L_0      = -log p(x_0|x_1)

In continuous time (Kingma, Salimans, Poole, Ho 2021, arXiv 2107.00630, Eq. 11-17; the integral taken over log-SNR, so
that it is the same for all processes with the same ends):

    steps   1/2 int E[ e^lambda |x_0 - x^_0|^2 ] d lambda,     data  -log p(x_0|x_least),     p(x_0|.) from q alone

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
    """What a datum is: log-probability of x [B, ...] where its numbers are normal with `mean` [B, ...] and `std`."""

    def __call__(self, x: Tensor, mean: Tensor, std: float | Tensor) -> Tensor: ...


def density(x: Tensor, mean: Tensor, std: float | Tensor) -> Tensor:
    """Real numbers: log N(x; mean, std^2), [B]."""
    each = -0.5 * ((x - mean) / std) ** 2 - torch.log(torch.as_tensor(std) * math.sqrt(2 * math.pi))
    return each.flatten(1).sum(1)


@final
@dataclass(frozen=True)
class Levels:
    """One of `count` values evenly over [-1, 1]: the mass of its bin, the outermost bins reaching on for ever (Ho et
    al. 2020, Eq. 13). It is a probability, so bits need no dequantisation."""

    count: int = 256

    def __call__(self, x: Tensor, mean: Tensor, std: float | Tensor) -> Tensor:
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


def prior_cost(process: Process, x: Tensor, last: float = 1.0) -> Tensor:
    """KL(q(x_T|x_0) || N(0, sigma_T^2)) = alpha_T^2 |x_0|^2/(2 sigma_T^2), nats [B]."""
    t = torch.tensor(last, dtype=torch.float64)
    ratio = process.alpha(t) / process.sigma(t)
    return 0.5 * expand(ratio, x) ** 2 * x.flatten(1).square().sum(1)


def _noised(process: Process, x: Tensor, t: Tensor, rng: torch.Generator) -> Tensor:
    return process.add_noise(x, torch.randn(x.shape, generator=rng, device=rng.device, dtype=x.dtype).to(x.device), t)


def _belief(denoise: Bound, x: Tensor, t: Tensor) -> Gaussian:
    belief = denoise(x, t)
    if not isinstance(belief, Gaussian):
        raise TypeError(f"this ledger is of models of continuous data, found a {type(belief).__name__} belief")
    return belief


def _strata(n: int, draws: int, rng: torch.Generator) -> Tensor:
    """[draws, n] float64 numbers in [0, 1): for each of `n` data one from each of `draws` equal parts."""
    u = double(torch.rand(draws, n, generator=rng, device=rng.device, dtype=widest(rng.device))).cpu()
    return (u + torch.arange(draws, dtype=torch.float64)[:, None]) / draws


def over_steps(step: Callable[[Tensor], Tensor], steps: range, x: Tensor, rng: torch.Generator, draws: int) -> Tensor:
    """The sum of `step(k)` [B] over all `steps` k, for each datum of x [B, ...] by `draws` of them, one from each of as
    many equal parts; where there are no more, all of them, each once."""
    if not steps:
        return torch.zeros(len(x), device=x.device)
    if draws >= len(steps):
        k = torch.tensor(steps)[:, None].expand(-1, len(x))
    else:
        k = (steps.start + _strata(len(x), draws, rng) * len(steps)).long().clamp(max=steps.stop - 1)  # [draws, B]
    return torch.stack([step(row) for row in k]).mean(0) * len(steps)


@final
@dataclass(frozen=True)
class DiscreteBound:
    """The bound of the chain whose steps are those of `samplers.ancestral` between `times` [T + 1], rising from 0.

    The variance of a step is that which the belief's `logvar` implies (`samplers.variances`). Without one: `v`, 0 for
    beta-tilde, 1 for beta (Nichol & Dhariwal's Eq. 15, fixed); then the last step, where beta-tilde is 0, takes the one
    before it, as theirs does. Where data have a density, beta is right for the small noises, and only with it does the
    bound become tight with more steps.
    """

    process: Process
    times: Tensor
    observed: Observed = Levels()
    v: float = 1.0

    def __call__(self, denoise: Bound, x: Tensor, rng: torch.Generator, draws: int = 10) -> Ledger:
        """`steps` by `draws` of the T - 1 of them; all of them, each once, where there are no more."""
        return {
            "prior": prior_cost(self.process, x, float(self.times[-1])),
            "steps": over_steps(lambda k: self.step(denoise, x, k, rng), range(2, len(self.times)), x, rng, draws),
            "data": self.data(denoise, x, rng),
        }

    def step(self, denoise: Bound, x: Tensor, k: Tensor, rng: torch.Generator) -> Tensor:
        """L_{k-1} of each datum for its own `k` [B] in 2..T, nats [B].

        With w the logarithm of the model's variance over beta-tilde and g the weight of x_0 in the mean, it is
        [ w + e^-w (1 + g^2 (x_0 - x^_0)^2/beta-tilde) - 1 ]/2 for each number.
        """
        t, s = self.times[k], self.times[k - 1]
        a_s, s_s, s_t = self.process.alpha(s), self.process.sigma(s), self.process.sigma(t)  # [B] each
        fresh = s_t**2 - (self.process.alpha(t) / a_s * s_s) ** 2
        gain = expand(fresh * (a_s / (s_s * s_t)) ** 2, x)  # g^2/beta-tilde
        belief = _belief(denoise, _noised(self.process, x, t, rng), t)
        if belief.logvar is None:
            wider = expand(self.v * torch.log(s_t**2 / s_s**2), x)
        else:
            wider = torch.log1p(gain * belief.logvar.exp())
        off = x - belief.x0
        each = wider + torch.expm1(-wider) + torch.exp(-wider) * gain * off.square()  # [B, ...]
        return each.flatten(1).sum(1) / 2

    def data(self, denoise: Bound, x: Tensor, rng: torch.Generator) -> Tensor:
        """L_0 of each datum, nats [B]."""
        t = self.times[1]
        belief = _belief(denoise, _noised(self.process, x, t, rng), t)
        std = self._last() if belief.logvar is None else torch.exp(belief.logvar / 2)
        return -self.observed(x, belief.x0, std)

    def _last(self) -> float:
        """The deviation of the last step, where the belief tells none."""
        t = self.times[1]
        fresh = float(self.process.sigma(t)) ** 2
        tilde = fresh
        if len(self.times) > 2:
            s_s, s_t = fresh**0.5, float(self.process.sigma(self.times[2]))
            r = float(self.process.alpha(self.times[2]) / self.process.alpha(t))
            tilde = (s_t**2 - (r * s_s) ** 2) * s_s**2 / s_t**2
        return math.exp((self.v * math.log(fresh) + (1 - self.v) * math.log(tilde)) / 2)


@final
@dataclass(frozen=True)
class ContinuousBound:
    """The bound in continuous time, from `least` to `last`; where alpha(last) = 0, choose `last` a little below 1."""

    process: Process
    observed: Observed = Levels()
    least: float = 1e-5
    last: float = 1.0

    def __call__(self, denoise: Bound, x: Tensor, rng: torch.Generator, draws: int = 10) -> Ledger:
        """`steps` by `draws` values of log-SNR, one from each of as many equal parts of its range."""
        ends = self.process.log_snr(torch.tensor([self.last, self.least], dtype=torch.float64))
        low, high = float(ends[0]), float(ends[1])
        lam = low + (high - low) * _strata(len(x), draws, rng)  # [draws, B]
        each = [self.step(denoise, x, row, rng) for row in lam]
        return {
            "prior": prior_cost(self.process, x, self.last),
            "steps": torch.stack(each).mean(0) * (high - low),
            "data": self.data(x, rng),
        }

    def step(self, denoise: Bound, x: Tensor, lam: Tensor, rng: torch.Generator) -> Tensor:
        """1/2 e^lambda |x_0 - x^_0|^2 of each datum at its own `lam` [B], nats [B] per unit of log-SNR."""
        t = self.process.t_of_logsnr(lam)
        off = x - _belief(denoise, _noised(self.process, x, t, rng), t).x0
        return 0.5 * (expand(lam.exp(), x) * off.square()).flatten(1).sum(1)

    def data(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """-log p(x_0|x_least), nats [B]: x_least/alpha is x_0 but for normal noise of known size."""
        t = torch.tensor(self.least, dtype=torch.float64)
        alpha = float(self.process.alpha(t))
        return -self.observed(x, _noised(self.process, x, t, rng) / alpha, float(self.process.sigma(t)) / alpha)


Bounds = Callable[[Bound, Tensor, torch.Generator, int], Ledger]
"""Either of them."""


def in_bits(ledger: Ledger, dims: int) -> Ledger:
    """A ledger of nats in bits per number, with its sum as `bound`."""
    bits = {name: nats / (dims * math.log(2)) for name, nats in ledger.items()}
    return {"bound": torch.stack(list(bits.values())).sum(0), **bits}
