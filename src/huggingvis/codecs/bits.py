r"""Analog bits: whole numbers as the signs of real ones, so that continuous diffusion draws discrete data.

Chen, Zhang & Hinton 2022, "Analog Bits" (arXiv 2208.04202), Sec. 2.1 and Algorithms 1-2: a number below 2^d is written
with d bits, each bit as +b or -b; what is drawn is cut at zero. `scale` is b, the size of the signal beside the noise.
How numbers are written matters (their Table 1): `Binary`; `Gray`, where neighbours differ in one bit; or `Shuffled`,
which hides all order. Book: chapter 4, "Discrete data as bits".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor

from huggingvis.core.errors import UsageError

MOST = 24
"""Bits of the largest numbers."""


def int2bits(x: Tensor, depth: int) -> Tensor:
    """Whole numbers in [0, 2^depth), [B, C, ...] int64 -> their bits 0 and 1, [B, C depth, ...], highest first."""
    place = torch.arange(depth - 1, -1, -1, device=x.device).reshape(1, 1, depth, *[1] * (x.ndim - 2))
    return ((x.unsqueeze(2) >> place) & 1).flatten(1, 2)


def bits2int(bits: Tensor, depth: int) -> Tensor:
    """The inverse of `int2bits`: bits 0 and 1 (or False and True) [B, C depth, ...] -> [B, C, ...] int64."""
    place = torch.arange(depth - 1, -1, -1, device=bits.device).reshape(1, 1, depth, *[1] * (bits.ndim - 2))
    return (bits.long().unflatten(1, (-1, depth)) << place).sum(2)


class Code(Protocol):
    """How whole numbers below 2^depth are written: a permutation of them and its inverse."""

    def word(self, x: Tensor, depth: int) -> Tensor:
        """What is written for the numbers `x`."""
        ...

    def number(self, word: Tensor, depth: int) -> Tensor:
        """Which numbers the words stand for."""
        ...


@final
@dataclass(frozen=True)
class Binary:
    """The number itself."""

    def word(self, x: Tensor, depth: int) -> Tensor:
        return x

    def number(self, word: Tensor, depth: int) -> Tensor:
        return word


@final
@dataclass(frozen=True)
class Gray:
    """Gray's code: the words of n and n + 1 differ in one bit."""

    def word(self, x: Tensor, depth: int) -> Tensor:
        return x ^ (x >> 1)

    def number(self, word: Tensor, depth: int) -> Tensor:
        shift = 1
        while shift < depth:  # a bit of the number is the parity of the word's bits from the top down to it
            word = word ^ (word >> shift)
            shift *= 2
        return word


@final
@dataclass(frozen=True)
class Shuffled:
    """A random permutation, always the same for one `seed`."""

    seed: int = 0

    def _words(self, depth: int) -> Tensor:
        return torch.randperm(2**depth, generator=torch.Generator().manual_seed(self.seed))

    def word(self, x: Tensor, depth: int) -> Tensor:
        return self._words(depth).to(x.device)[x]

    def number(self, word: Tensor, depth: int) -> Tensor:
        return self._words(depth).argsort().to(word.device)[word]


@final
@dataclass(frozen=True)
class AnalogBits:
    """`encode` numbers in [0, count) [B, C, ...] int64 -> +-`scale`, [B, C depth, ...] float32; `decode` cuts at zero.

    For class maps, token ids, grey values. Where `count` is no power of two, words of no number become the last one.
    Raises `UsageError` for numbers outside of the range.
    """

    count: int = 256
    scale: float = 1.0
    code: Code = Binary()

    def __post_init__(self) -> None:
        if not 2 <= self.count <= 2**MOST or self.scale <= 0:
            raise UsageError(
                f"Analog bits write 2 to {2**MOST} different numbers with a positive scale, found {self.count} with "
                f"{self.scale}."
            )

    @property
    def depth(self) -> int:
        """Bits of a number."""
        return (self.count - 1).bit_length()

    def encode(self, x: Tensor) -> Tensor:
        if x.numel() and not 0 <= int(x.min()) <= int(x.max()) < self.count:
            raise UsageError(
                f"These bits write numbers from 0 to {self.count - 1}, found {int(x.min())} to {int(x.max())}."
            )
        return (2.0 * int2bits(self.code.word(x, self.depth), self.depth) - 1) * self.scale

    def decode(self, z: Tensor) -> Tensor:
        return self.code.number(bits2int(z > 0, self.depth), self.depth).clamp(max=self.count - 1)


@final
@dataclass(frozen=True)
class PixelBits:
    """Pictures [B, C, H, W] in [-1, 1] of `bits.count` levels, the nearest of which is taken, as analog bits."""

    bits: AnalogBits = AnalogBits()

    def encode(self, x: Tensor) -> Tensor:
        top = self.bits.count - 1
        return self.bits.encode(((x + 1) * (top / 2)).round().clamp(0, top).long())

    def decode(self, z: Tensor) -> Tensor:
        return self.bits.decode(z) * (2 / (self.bits.count - 1)) - 1
