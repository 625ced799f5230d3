r"""Processes at speeds of their own, for components that become noise sooner or later than others.

Batzolis et al. 2022, "Non-Uniform Diffusion Models" (arXiv 2207.09786): each component i has a diffusion of its own.
Here all are one process run at different speeds, alpha_i(t) = alpha(v_i t) up to its end, after which they rest:

    Sec. 4   wavelet bands: fine details fast, what is coarse slowly; they begin to exist one after another
    Sec. 5   pairs (x, y): v_y = v_x is CDiffE; v_y < v_x is CMDE, where less of the condition is lost

Book: chapter 4, "Different speeds".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from huggingvis.core.components import Components
from huggingvis.core.errors import UsageError
from huggingvis.core.process import Process


@final
@dataclass(frozen=True)
class Sped(Process):
    """`process` at the time `speed` t, and at its end from there on."""

    process: Process
    speed: float

    def __post_init__(self) -> None:
        if self.speed <= 0:
            raise UsageError(f"A speed of diffusion is a positive number, found {self.speed}.")

    def _own(self, t: Tensor) -> Tensor:
        return (self.speed * t).clamp(max=1.0)

    def alpha(self, t: Tensor) -> Tensor:
        return self.process.alpha(self._own(t))

    def sigma(self, t: Tensor) -> Tensor:
        return self.process.sigma(self._own(t))

    def t_of_logsnr(self, lam: Tensor) -> Tensor:
        return self.process.t_of_logsnr(lam) / self.speed

    def derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        moves = self.speed * (self.speed * t <= 1.0)
        signal, noise = self.process.derivatives(self._own(t))
        return moves * signal, moves * noise

    def clock(self, t: Tensor) -> Tensor:
        return self.process.clock(self._own(t))


def at_speeds(process: Process, speeds: Sequence[float], components: Sequence[int], dims: int = 2) -> Components:
    """`process` at each of `speeds` for as many channels as `components` says, in turn; data have `dims` more axes.

    The first speed is the pace of grids and clocks.
    """
    if len(speeds) != len(components) or not speeds:
        raise UsageError(f"Each group of components has one speed: found {len(components)} and {len(speeds)} speeds.")
    part_of = torch.repeat_interleave(torch.arange(len(speeds)), torch.tensor(list(components)))
    parts = tuple(process if speed == 1.0 else Sped(process, speed) for speed in speeds)
    return Components(parts, part_of.reshape(-1, *[1] * dims))
