r"""Likelihood of 8-bit pixels: the probability that a logistic variable falls into a pixel's bin.

Salimans, Karpathy, Chen & Kingma 2017, "PixelCNN++" (arXiv 1701.05517), Eq. 2, with one component (as Kingma et al.
2016, arXiv 1606.04934, Sec. C.1), so that bits per dimension are those of a discrete code:

    P(x) = sigma((x + 1/255 - mu) / s) - sigma((x - 1/255 - mu) / s),  x in {-1, ..., 1} in steps of 2/255

where the lowest and the highest value take what lies beyond them. Being a probability, it cannot exceed 1 where pixels
never change, so s is learnt for each pixel. Book: chapter 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F


def nearest(x: Tensor, levels: int = 256) -> Tensor:
    """Pictures in [-1, 1], each value the nearest of `levels` evenly spaced ones: those of resized ones lie between."""
    return 2 * level_of(x, levels) / (levels - 1) - 1


def level_of(x: Tensor, levels: int = 256) -> Tensor:
    """Which of `levels` evenly spaced values is nearest to each of x in [-1, 1]: 0, 1, ... at least float32."""
    y = (x.to(torch.promote_types(x.dtype, torch.float32)).clamp(-1, 1) + 1) / 2
    return torch.round(y * (levels - 1))


@final
@dataclass(frozen=True)
class DiscretisedLogistic:
    """A `Likelihood` whose decoder gives two numbers for each value: [B, 2 C, H, W], means, then log-scales.

    `floor`: smallest log-scale; e^-7 is a quarter of a bin.
    """

    floor: float = -7.0

    def observe(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """The nearest of 256 values."""
        return nearest(x)

    def each(self, out: Tensor, x: Tensor) -> Tensor:
        mu, log_s = out.to(torch.promote_types(out.dtype, torch.float32)).chunk(2, dim=1)  # [B, C, H, W] each
        log_s = (log_s - 2).clamp(min=self.floor)  # fresh nets, which give 0, begin with s = 0.14
        rate = torch.exp(-log_s)
        above, below = rate * (x + 1 / 255 - mu), rate * (x - 1 / 255 - mu)
        # sigma(a) - sigma(b) = sigma(a) sigma(-b) (1 - e^(b - a)), without cancellation
        inside = F.logsigmoid(above) + F.logsigmoid(-below) + torch.log(-torch.expm1(-rate * (2 / 255)))
        least, most = x < -1 + 1 / 255, x > 1 - 1 / 255
        return torch.where(least, F.logsigmoid(above), torch.where(most, F.logsigmoid(-below), inside))

    def log_prob(self, out: Tensor, x: Tensor) -> Tensor:
        return self.each(out, x).flatten(1).sum(1)

    def mean(self, out: Tensor) -> Tensor:
        return out.chunk(2, dim=1)[0].clamp(-1, 1)

    def saying(self, mean: Tensor, std: Tensor) -> Tensor:
        """[2 C]: a logistic variable's deviation is pi s / sqrt 3."""
        return torch.cat([mean, torch.log(std * 3**0.5 / torch.pi) + 2])
