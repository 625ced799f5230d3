"""What a datum is to a ledger of bits: a real number, or one of so many values, whose bits need no dequantisation.

A ledger ends with -log p(x_0|x_1), the cost of the datum itself given the least noisy picture of it
(`objectives.ledger`): by Ho, Jain, Abbeel 2020 (arXiv 2006.11239, Eq. 13) the mass of a bin, by Kingma, Salimans,
Poole, Ho 2021 (arXiv 2107.00630, Sec. 3.3) what q alone tells. Book: chapter 4, "Likelihood".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor


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
