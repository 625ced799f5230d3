"""Reproducible random draws from a key, the same on every machine and with every version of numpy.

SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"): a 64-bit counter stepped by
the golden ratio and scrambled. The starting state is the BLAKE2s hash of the key, so (seed, index) fixes a layout
whatever was drawn before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")
_MASK = (1 << 64) - 1


def stable_hash(*key: object) -> int:
    """A 64-bit number that depends on the written form of `key` only (never on the process, as `hash` does)."""
    text = "\x1f".join(str(part) for part in key)
    return int.from_bytes(hashlib.blake2s(text.encode(), digest_size=8).digest(), "little")


def among(share: float, *key: object) -> bool:
    """Whether the draw of `key` falls into the first `share` of all."""
    return stable_hash(*key) % 1000 < 1000 * share


class Draws:
    """A stream of draws that starts from the hash of `key`."""

    def __init__(self, *key: object) -> None:
        self._state = stable_hash(*key)

    def unit(self) -> float:
        """A number in [0, 1) with 53 random bits."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return ((z ^ (z >> 31)) >> 11) * 2.0**-53

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self.unit()

    def below(self, n: int) -> int:
        return int(self.unit() * n)

    def chance(self, p: float) -> bool:
        return self.unit() < p

    def pick(self, items: Sequence[T]) -> T:
        return items[int(self.unit() * len(items))]

    def weighted(self, items: Sequence[tuple[T, float]]) -> T:
        """One of `(item, weight)`; the weights need not sum to one."""
        left = self.unit() * sum(weight for _, weight in items)
        for item, weight in items:
            left -= weight
            if left < 0:
                return item
        return items[-1][0]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        out = list(items)
        for i in range(len(out) - 1, 0, -1):
            j = self.below(i + 1)
            out[i], out[j] = out[j], out[i]
        return out
