"""The two numbers of a process at a time, alpha and sigma, and the memory of them that a walk has.

A walk asks for the levels of its few times again and again: the denoiser to read the network's output, the sampler at
both ends of each step. The loop has them found in one go before the first step and forgotten after the last, so that
learned levels, which change between walks, are never stale. Book: chapter 4, "The loop".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, final

from torch import Tensor

from huggingvis.core.shapes import Coefficient, expand


class Levelled(ABC):
    """What has alpha(t) and sigma(t)."""

    _known: ClassVar[dict[float, tuple[float, float]] | None] = None  # the levels of a walk, on the instance it is on

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Signal coefficient at `t`."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Noise coefficient at `t`."""

    @final
    def coefficients(self, t: Tensor, x: Tensor) -> tuple[Coefficient, Coefficient]:
        """(alpha, sigma) at `t`, shaped to broadcast over `x`; plain numbers at a single time of a walk."""
        if self._known is not None and t.ndim == 0 and not t.requires_grad:
            return self.level(t)
        return expand(self.alpha(t), x), expand(self.sigma(t), x)

    @final
    def level(self, t: Tensor) -> tuple[float, float]:
        """(alpha, sigma) at the single time `t` as plain numbers, without gradient."""
        known, time = self._known, float(t)
        pair = None if known is None else known.get(time)
        if pair is None:
            pair = float(self.alpha(t).detach()), float(self.sigma(t).detach())
            if known is not None:
                known[time] = pair
        return pair

    def remember(self, times: Tensor) -> None:
        """Until `forget`, the levels at `times` [N] and at every other time that is asked for on the way.

        Levels that need a gradient are not remembered: they stay tensors.
        """
        alpha, sigma = self.alpha(times), self.sigma(times)
        if not (alpha.requires_grad or sigma.requires_grad):
            pairs = zip(alpha.tolist(), sigma.tolist(), strict=True)
            object.__setattr__(self, "_known", dict(zip(times.tolist(), pairs, strict=True)))

    def forget(self) -> None:
        """The walk is over."""
        object.__setattr__(self, "_known", None)
