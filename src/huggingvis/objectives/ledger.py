r"""The ledger of the variational bound: what each part of a diffusion model's code for a datum costs.

    -log p(x_0) <= prior + steps + data

prior: what x_T costs, since samples start from noise that knows nothing; steps: what each step back from noise adds;
data: x_0 itself, given the least noisy picture of it (`objectives.observed`). `discrete_bound` tells the parts of a
chain of T steps, `continuous_bound` those in continuous time, `categorical_bound` those of data that are names.

The prior is what samples start from (N(0, I) for DDPM, whose sigma_T^2 is 1 to 4e-5; its KL differs by 1e-9). Book:
chapter 4, "Likelihood".
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from huggingvis.core.belief import Gaussian
from huggingvis.core.process import Process
from huggingvis.core.protocols import Bound
from huggingvis.core.shapes import double, widest

Ledger = dict[str, Tensor]
"""`prior`, `steps` and `data` of each datum, nats [B]; their sum bounds -log p from above."""
Bounds = Callable[[Bound, Tensor, torch.Generator, int], Ledger]
"""A bound of continuous data: its ledger, of what a model believes, for data [B, ...] by so many draws."""


def prior_cost(process: Process, x: Tensor, last: float = 1.0) -> Tensor:
    """KL(q(x_T|x_0) || N(0, sigma_T^2)) = alpha_T^2 |x_0|^2/(2 sigma_T^2), nats [B]."""
    a, s = process.coefficients(torch.tensor(last, dtype=torch.float64), x)
    return 0.5 * (a / s) ** 2 * x.flatten(1).square().sum(1)


def noised(process: Process, x: Tensor, t: Tensor, rng: torch.Generator) -> Tensor:
    """x_t of data x [B, ...] at times `t` [] or [B]."""
    return process.add_noise(x, torch.randn(x.shape, generator=rng, device=rng.device, dtype=x.dtype).to(x.device), t)


def believed(denoise: Bound, x: Tensor, t: Tensor) -> Gaussian:
    """The belief about x_0 at x_t = x [B, ...]. Raises `TypeError` for one that is not of continuous data."""
    belief = denoise(x, t)
    if not isinstance(belief, Gaussian):
        raise TypeError(f"this ledger is of models of continuous data, found a {type(belief).__name__} belief")
    return belief


def strata(n: int, draws: int, rng: torch.Generator) -> Tensor:
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
    error larger, not the mean: each step has at least a tenth of the chance that it would have without one. No gradient
    goes into the guess, by which the steps are drawn too.
    """
    if not steps:
        return torch.zeros(len(x), device=x.device)
    k = torch.tensor(steps)
    if draws >= len(steps):
        return torch.stack([step(row) for row in k[:, None].expand(-1, len(x))]).sum(0)
    even = torch.full((len(steps),), 1 / len(steps), dtype=torch.float64)
    guess = even if share is None else double(share.detach()).cpu()
    p = 0.9 * guess / guess.sum() + 0.1 * even
    drawn = torch.searchsorted(p.cumsum(0), strata(len(x), draws, rng), right=True).clamp(max=len(steps) - 1)
    costs = ((row, step(k[row])) for row in drawn)
    return torch.stack([cost / p[row].to(cost) for row, cost in costs]).mean(0)


def in_bits(ledger: Ledger, dims: int) -> Ledger:
    """A ledger of nats in bits per number, with its sum as `bits_per_dim`."""
    bits = {name: nats / (dims * math.log(2)) for name, nats in ledger.items()}
    return {"bits_per_dim": torch.stack(list(bits.values())).sum(0), **bits}
