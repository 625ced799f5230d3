"""What a model believes about the clean datum at a noise level: the return value of every denoiser.

Beliefs form a small linear algebra, so that guidance is arithmetic on them: `a + scale * (b - a)`.
Book: chapter 4, "One waist for every diffusion model".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """Belief about a continuous datum: its mean `x0` and, where the model tells more, elementwise (same shape)

    `logvar`, the logarithm of its variance; and `v`, where the variance of a reverse step lies between beta-tilde (0)
    and beta (1), in the logarithm (Nichol & Dhariwal 2021, arXiv 2102.09672, Eq. 15).
    Arithmetic is that of means; the left operand's other numbers stay.
    """

    x0: Tensor  # [B, ...]
    logvar: Tensor | None = None
    v: Tensor | None = None

    def __add__(self, other: Self) -> Self:
        return replace(self, x0=self.x0 + other.x0)

    def __sub__(self, other: Self) -> Self:
        return replace(self, x0=self.x0 - other.x0)

    def __mul__(self, scale: float | Tensor) -> Self:
        return replace(self, x0=self.x0 * scale)

    __rmul__ = __mul__

    def halves(self) -> tuple[Self, Self]:
        """The beliefs about the first and the second half of the batch."""
        parts = (part.chunk(2) if part is not None else (None, None) for part in (self.logvar, self.v))
        first, second = zip(self.x0.chunk(2), *parts, strict=True)
        return type(self)(*first), type(self)(*second)


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

    def halves(self) -> tuple[Self, Self]:
        """The beliefs about the first and the second half of the batch."""
        first, second = self.logits.chunk(2)
        return type(self)(first), type(self)(second)


Belief = Gaussian | Categorical
