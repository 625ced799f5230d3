r"""A network that also tells the variance of the reverse step.

Nichol, Dhariwal 2021, arXiv 2102.09672, Eq. 15: beside its prediction the network gives one number v for each value,
which places the variance of p(x_s | x_t) between the two that are right for the two extremes of data,

    Sigma = exp( v log beta + (1 - v) log beta-tilde )

In their code, and in weights trained by it, the output is 2 v - 1. `objectives.hybrid` trains it.

Sohl-Dickstein et al. 2015, arXiv 1503.03585, Sec. 2.2, learn the whole of the diagonal covariance. By the law of total
variance the best one is beta-tilde + g^2 Var[x_0 | x_t] (`samplers.variances`), so here a network tells how sure it is
of x_0, and every step, of whatever length, has its own covariance. `objectives.bound_training` trains it.

`samplers.variances.Told` reads both. Book: chapter 4, "Improved DDPM".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from huggingvis.core.belief import Gaussian
from huggingvis.core.process import Around, Process


@dataclass(frozen=True)
class _Beside(Around, ABC):
    """`inner` in the first half of the channels (dimension 1), and what tells a variance in the second."""

    def x0(self, process: Process, out: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return self.inner.x0(process, self.main(out), x, t)

    def outputs(self, channels: int) -> int:
        return 2 * self.inner.outputs(channels)

    def main(self, out: Tensor) -> Tensor:
        return self.inner.main(out.chunk(2, dim=1)[0])

    @abstractmethod
    def belief(self, process: Process, out: Tensor, x: Tensor, t: Tensor) -> Gaussian: ...


@final
@dataclass(frozen=True)
class LearnedVariance(_Beside):
    """The second half is 2 v - 1 (diffusers' variance type `learned_range`)."""

    def belief(self, process: Process, out: Tensor, x: Tensor, t: Tensor) -> Gaussian:
        return Gaussian(self.x0(process, out, x, t), v=(out.chunk(2, dim=1)[1] + 1) / 2)


@final
@dataclass(frozen=True)
class ToldVariance(_Beside):
    """The second half is log Var[x_0 | x_t] beyond that of N(0, I), of which a network need say nothing."""

    def belief(self, process: Process, out: Tensor, x: Tensor, t: Tensor) -> Gaussian:
        a, s = process.coefficients(t, x)
        logvar = out.chunk(2, dim=1)[1] + torch.as_tensor(s**2 / (a**2 + s**2), dtype=x.dtype).log()
        return Gaussian(self.x0(process, out, x, t), logvar)
