r"""Training times drawn where the loss is large, with weights that leave its mean as it is.

Nichol, Dhariwal 2021, arXiv 2102.09672, Eq. 18: over the T knots of a table,

    L = E_{t ~ p} [ L_t/(T p_t) ],    p_t proportional to sqrt(E[L_t^2])

which of all laws has the least variance. E[L_t^2] is the mean of the last ten values; until every knot has as many,
times are uniform. Book: chapter 4, "Improved DDPM".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from huggingvis.core.objective import Memory
from huggingvis.core.shapes import double
from huggingvis.objectives.denoise import TimeLaw


@final
class LossAware(Memory, TimeLaw):
    """Knots of a table of `T` by their losses. `keep` values of each knot count; the share `uniform` is even.

    Values that one step gives to one knot are averaged, over ranks too, so that all ranks draw by the same law.
    """

    squares: Tensor
    counts: Tensor
    noted: Tensor

    def __init__(self, T: int = 1000, keep: int = 10, uniform: float = 1e-3):
        super().__init__()
        self.T, self.keep, self.uniform = T, keep, uniform
        self.register_buffer("squares", torch.zeros(T, keep))  # the newest last
        self.register_buffer("counts", torch.zeros(T, dtype=torch.long))
        self.register_buffer("noted", torch.zeros(2, T), persistent=False)  # sums of squares, how many

    def probabilities(self) -> Tensor:
        """p_t, [T]."""
        even = torch.full_like(self.squares[:, 0], 1 / self.T)
        known = self.squares.mean(1).sqrt()
        by_loss = (1 - self.uniform) * known / known.sum().clamp(min=1e-30) + self.uniform / self.T
        return torch.where((self.counts >= self.keep).all() & (known.sum() > 0), by_loss, even)

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        k = torch.multinomial(self.probabilities().to(rng.device), n, replacement=True, generator=rng)  # [n]
        return double(k + 1) / self.T

    def weight(self, t: Tensor) -> Tensor:
        """1/(T p_t)."""
        return 1 / (self.T * self.probabilities()[self._knot(t)])

    def note(self, t: Tensor, loss: Tensor) -> None:
        each = torch.stack([loss.to(self.noted).square(), torch.ones_like(self.noted[0, : len(t)])])  # [2, B]
        self.noted.index_add_(1, self._knot(t), each)

    def settle(self, reduce: Callable[[Tensor], Tensor]) -> None:
        total, count = reduce(self.noted)
        seen = count > 0
        newest = torch.cat([self.squares[:, 1:], (total / count)[:, None]], 1)
        self.squares.copy_(torch.where(seen[:, None], newest, self.squares))
        self.counts.add_(seen)
        self.noted.zero_()

    def _knot(self, t: Tensor) -> Tensor:
        return (t * self.T).round().long().to(self.squares.device) - 1
