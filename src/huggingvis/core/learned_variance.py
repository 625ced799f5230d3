r"""A network that also tells the variance of the reverse step.

Nichol, Dhariwal 2021, arXiv 2102.09672, Eq. 15: beside its prediction the network gives one number v for each value,
which places the variance of p(x_s | x_t) between the two that are right for the two extremes of data,

    Sigma = exp( v log beta + (1 - v) log beta-tilde )

In their code, and in weights trained by it, the output is 2 v - 1. `samplers.variances.Told` reads it, and
`objectives.hybrid` trains it. Book: chapter 4, "Improved DDPM".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from huggingvis.core.belief import Gaussian
from huggingvis.core.process import Around, Process


@final
@dataclass(frozen=True)
class LearnedVariance(Around):
    """`inner` in the first half of the channels, 2 v - 1 in the second (diffusers' variance type `learned_range`)."""

    def x0(self, process: Process, out: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return self.inner.x0(process, self.main(out), x, t)

    def outputs(self, channels: int) -> int:
        return 2 * self.inner.outputs(channels)

    def main(self, out: Tensor) -> Tensor:
        return self.inner.main(out.chunk(2, dim=1)[0])

    def belief(self, process: Process, out: Tensor, x: Tensor, t: Tensor) -> Gaussian:
        return Gaussian(self.x0(process, out, x, t), v=(out.chunk(2, dim=1)[1] + 1) / 2)
