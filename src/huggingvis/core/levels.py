"""The two numbers of a process at a time, alpha and sigma, and the memory of them that a walk has.

A walk asks for the levels of its few times again and again: the denoiser to read the network's output, the sampler at
both ends of each step. They are found in one go before the first step and forgotten after the last. The memory is the
walk's, not the process's: walks inside walks and walks in other threads have their own. Levels that can still learn are
not remembered: they stay tensors. Book: chapter 4, "The loop".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import final

import torch
from torch import Tensor

from huggingvis.core.shapes import Coefficient, expand

Table = dict[float, tuple[float, float]]
"""Time -> (alpha, sigma)."""
BLIND = 1e-6
"""Where alpha is no more than this share of sigma, x_t says nothing of x_0 that survives rounding."""
_KNOWN: ContextVar[Mapping[int, Table | None]] = ContextVar("levels", default=MappingProxyType({}))
"""Of the walks that are on, by the `id` of a process, which its walk holds."""


class Levelled(ABC):
    """What has alpha(t) and sigma(t)."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Signal coefficient at `t`."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Noise coefficient at `t`."""

    @final
    def coefficients(self, t: Tensor, x: Tensor) -> tuple[Coefficient, Coefficient]:
        """(alpha, sigma) at `t`, shaped to broadcast over `x`; plain numbers at a single time of a walk."""
        if t.ndim == 0 and not t.requires_grad and _KNOWN.get().get(id(self)) is not None:
            return self.level_at(t)
        return expand(self.alpha(t), x), expand(self.sigma(t), x)

    @final
    def level_at(self, t: Tensor) -> tuple[float, float]:
        """(alpha, sigma) at the single time `t` as plain numbers, without gradient."""
        known, time = _KNOWN.get().get(id(self)), float(t)
        pair = None if known is None else known.get(time)
        if pair is None:
            pair = float(self.alpha(t).detach()), float(self.sigma(t).detach())
            if known is not None:
                known[time] = pair
        return pair

    @final
    @contextmanager
    def walked(self, times: Tensor) -> Iterator[None]:
        """Meanwhile the levels at `times` [N], and at other times once they are asked for, are known."""
        before = _KNOWN.set({**_KNOWN.get(), **self.tables(times)})
        try:
            yield
        finally:
            _KNOWN.reset(before)

    def tables(self, times: Tensor) -> dict[int, Table | None]:
        """What is to be known during a walk along `times`, of this process or of its parts, by their `id`."""
        with torch.enable_grad():  # whatever the mode, what can learn says so
            alpha, sigma = self.alpha(times), self.sigma(times)
        if alpha.requires_grad or sigma.requires_grad:
            return {id(self): None}
        return {id(self): dict(zip(times.tolist(), zip(alpha.tolist(), sigma.tolist(), strict=True), strict=True))}
