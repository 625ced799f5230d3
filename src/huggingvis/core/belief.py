"""What a model believes about the clean datum at a noise level: the return value of every denoiser.

Beliefs form a small linear algebra, so that guidance is arithmetic on them: `a + scale * (b - a)`.
Book: chapter 4, "One waist for every diffusion model".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """Belief about a continuous datum: mean `x0` and, where the model tells it, elementwise `logvar` (same shape)."""

    x0: Tensor  # [B, ...]
    logvar: Tensor | None = None

    def __add__(self, other: Self) -> Self:
        return type(self)(self.x0 + other.x0, self.logvar)

    def __sub__(self, other: Self) -> Self:
        return type(self)(self.x0 - other.x0, self.logvar)

    def __mul__(self, scale: float | Tensor) -> Self:
        return type(self)(self.x0 * scale, self.logvar)

    __rmul__ = __mul__


@dataclass(frozen=True)
class Categorical:
    """Belief about a discrete datum: unnormalised log-probabilities over the classes, last dimension."""

    logits: Tensor  # [B, ..., K]

    def __add__(self, other: Self) -> Self:
        return type(self)(self.logits + other.logits)

    def __sub__(self, other: Self) -> Self:
        return type(self)(self.logits - other.logits)

    def __mul__(self, scale: float | Tensor) -> Self:
        return type(self)(self.logits * scale)

    __rmul__ = __mul__


Belief = Gaussian | Categorical
