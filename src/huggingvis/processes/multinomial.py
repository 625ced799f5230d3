r"""Multinomial diffusion: a position keeps its class, or is drawn anew from a law that does not know it.

    q(x_t | x_s)  =  r [x_t = x_s]  +  (1 - r) pi(x_t),        r = keep(t)/keep(s)

    binomial       two classes                  Sohl-Dickstein et al. 2015, arXiv 1503.03585, Table App.1 (pi even)
    multinomial    pi even over K classes       Hoogeboom et al. 2021, arXiv 2102.05379, Eq. 11-13
    absorbing      pi sure of one class         Austin et al. 2021, arXiv 2107.03006, Sec. 3.1

The first paper's rates beta_t = 1/(T - t + 1) (its Sec. 2.4.1) erase as much in every step: after t of T steps
keep = prod (1 - beta_i) = 1 - t/T, for any T. So time here is continuous, and how many steps are walked is the grid's
choice. Book: chapter 4, "The first diffusion".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from huggingvis.core.categorical import CategoricalProcess
from huggingvis.core.errors import UsageError
from huggingvis.core.shapes import expand


def evenly(t: Tensor) -> Tensor:
    """1 - t: as much is erased in every step."""
    return 1 - t


@final
@dataclass(frozen=True)
class Multinomial(CategoricalProcess):
    """`law`: pi, one number for each class. `keep`: the share that still is as it was, falling from 1 at t = 0 to 0."""

    law: tuple[float, ...] = (0.5, 0.5)
    keep: Callable[[Tensor], Tensor] = evenly

    def __post_init__(self) -> None:
        if len(self.law) < 2 or min(self.law) < 0 or abs(sum(self.law) - 1) > 1e-9:
            raise UsageError(f"A law is at least two probabilities that sum to 1, found {self.law}.")

    @classmethod
    def even(cls, classes: int, keep: Callable[[Tensor], Tensor] = evenly) -> Multinomial:
        """Towards all classes alike."""
        return cls((1 / classes,) * classes, keep)

    @property
    def prior(self) -> Tensor:
        return torch.tensor(self.law, dtype=torch.float64)

    def forward(self, p: Tensor, s: Tensor, t: Tensor) -> Tensor:
        r = self._kept(s, t, p)
        return r * p + (1 - r) * self._law(p) * p.sum(-1, keepdim=True)

    def backward(self, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        same = self.one_hot(x)
        r = self._kept(s, t, same)
        return r * same + (1 - r) * self._law(same)[x][..., None]

    def _law(self, like: Tensor) -> Tensor:
        return self.prior.to(like.device, like.dtype)

    def _kept(self, s: Tensor, t: Tensor, like: Tensor) -> Tensor:
        """r, shaped to broadcast over `like` [B, ..., K]."""
        return expand(self.keep(t) / self.keep(s), like)
