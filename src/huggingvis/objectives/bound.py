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
    """What a datum is: log-probability of x [B, ...] where its number is normal with `mean` [B, ...] and `std`."""

    def __call__(self, x: Tensor, mean: Tensor, std: float) -> Tensor: ...


def density(x: Tensor, mean: Tensor, std: float) -> Tensor:
    """A real number: log N(x; mean, std^2), [B]."""
    each = -0.5 * ((x - mean) / std) ** 2 - math.log(std * math.sqrt(2 * math.pi))
    return each.flatten(1).sum(1)


@final
@dataclass(frozen=True)
class Levels:
    """One of `count` values evenly over [-1, 1]: the mass of its bin, the outermost bins reaching on for ever (Ho et
    al. 2020, Eq. 13). It is a probability, so bits need no dequantisation."""

    count: int = 256

    def __call__(self, x: Tensor, mean: Tensor, std: float) -> Tensor:
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
    ratio = float(process.alpha(t)) / float(process.sigma(t))
    return 0.5 * ratio**2 * x.flatten(1).square().sum(1)


def _noised(process: Process, x: Tensor, t: Tensor, rng: torch.Generator) -> Tensor:
    return process.add_noise(x, torch.randn(x.shape, generator=rng, device=rng.device, dtype=x.dtype).to(x.device), t)


def _believed(denoise: Bound, x: Tensor, t: Tensor) -> Tensor:
    belief = denoise(x, t)
    if not isinstance(belief, Gaussian):
        raise TypeError(f"this ledger is of models of continuous data, found a {type(belief).__name__} belief")
    return belief.x0


def _strata(n: int, draws: int, rng: torch.Generator) -> Tensor:
    """[draws, n] float64 numbers in [0, 1): for each of `n` data one from each of `draws` equal parts."""
    u = double(torch.rand(draws, n, generator=rng, device=rng.device, dtype=widest(rng.device))).cpu()
    return (u + torch.arange(draws, dtype=torch.float64)[:, None]) / draws


@final
@dataclass(frozen=True)
class DiscreteBound:
    """The bound of the chain whose steps are those of `samplers.ancestral` between `times` [T + 1], rising from 0.

    `v`: its variance, 0 for beta-tilde, 1 for beta (Nichol & Dhariwal's Eq. 15, fixed); the last step, where beta-tilde
    is 0, takes the one before it, as theirs does. Where data have a density, beta is right for the small noises, and
    only with it does the bound become tight with more steps.
    """

    process: Process
    times: Tensor
    observed: Observed = Levels()
    v: float = 1.0

    def __call__(self, denoise: Bound, x: Tensor, rng: torch.Generator, draws: int = 10) -> Ledger:
        """`steps` by `draws` of the T - 1 of them; all of them, each once, where there are no more."""
        count = len(self.times) - 2
        if draws >= count:
            k = torch.arange(2, count + 2)[:, None].expand(count, len(x))
        else:
            k = (2 + _strata(len(x), draws, rng) * count).long().clamp(max=count + 1)  # [draws, B]
        steps = [self.step(denoise, x, row, rng) for row in k]
        total = torch.stack(steps).mean(0) * count if steps else torch.zeros(len(x), dtype=x.dtype, device=x.device)
        return {
            "prior": prior_cost(self.process, x, float(self.times[-1])),
            "steps": total,
            "data": self.data(denoise, x, rng),
        }

    def step(self, denoise: Bound, x: Tensor, k: Tensor, rng: torch.Generator) -> Tensor:
        """L_{k-1} of each datum for its own `k` [B] in 2..T, nats [B]."""
        t, s = self.times[k], self.times[k - 1]
        a_s, s_s, s_t = self.process.alpha(s), self.process.sigma(s), self.process.sigma(t)  # [B] each
        fresh = s_t**2 - (self.process.alpha(t) / a_s * s_s) ** 2
        true = fresh * s_s**2 / s_t**2  # the posterior's variance, beta-tilde
        held = (1 - self.v) * torch.log(s_s**2 / s_t**2) + torch.log(fresh)  # log of the model's
        ratio = true / held.exp()
        off = x - _believed(denoise, _noised(self.process, x, t, rng), t)
        weight = expand((a_s * fresh / s_t**2) ** 2 / held.exp() / 2, x)
        flat = (0.5 * (ratio - 1 - ratio.log())).to(x.device, x.dtype)  # [B], of each number
        return (weight * off.square()).flatten(1).sum(1) + x[0].numel() * flat

    def data(self, denoise: Bound, x: Tensor, rng: torch.Generator) -> Tensor:
        """L_0 of each datum, nats [B]."""
        t = self.times[1]
        fresh = float(self.process.sigma(t)) ** 2
        tilde = fresh
        if len(self.times) > 2:
            s_s, s_t = fresh**0.5, float(self.process.sigma(self.times[2]))
            r = float(self.process.alpha(self.times[2]) / self.process.alpha(t))
            tilde = (s_t**2 - (r * s_s) ** 2) * s_s**2 / s_t**2
        std = math.exp((self.v * math.log(fresh) + (1 - self.v) * math.log(tilde)) / 2)
        return -self.observed(x, _believed(denoise, _noised(self.process, x, t, rng), t), std)


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
        off = x - _believed(denoise, _noised(self.process, x, t, rng), t)
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
