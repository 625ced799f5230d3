"""Where a step ends: at the grid's next time, or one length further whatever the next time is.

`Even` is what the DDIM and PNDM of diffusers do: they step by floor(T/N) entries of a table of T, and where the N calls
stand further apart the network is asked about an x that is a little less noisy than it is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, final

from torch import Tensor


class Stride(Protocol):
    """How far a step goes whose call is at `t` and whose next call is at `s`, all 0-dim float64."""

    def end(self, t: Tensor, s: Tensor) -> Tensor:
        """Where the step ends."""
        ...

    def start(self, t: Tensor, s: Tensor) -> Tensor:
        """Where a step that ends at `s` began."""
        ...

    def middle(self, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Half-way: as counted from the start, and from the end."""
        ...


@final
@dataclass(frozen=True)
class OnGrid:
    """From one call to the next."""

    def end(self, t: Tensor, s: Tensor) -> Tensor:
        return s

    def start(self, t: Tensor, s: Tensor) -> Tensor:
        return t

    def middle(self, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        half = (t + s) / 2
        return half, half


@final
@dataclass(frozen=True)
class Even:
    """By `length`, half of which is `half`, and not below `least`."""

    length: float
    half: float
    least: float = 0.0

    def end(self, t: Tensor, s: Tensor) -> Tensor:
        return (t - self.length).clamp(min=self.least)

    def start(self, t: Tensor, s: Tensor) -> Tensor:
        return s + self.length

    def middle(self, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        return t - self.half, s + self.half


GRID = OnGrid()
