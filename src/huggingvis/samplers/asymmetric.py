r"""Asymmetric time intervals: a step goes further than the next call of the network is told.

Chen, Zhang & Hinton 2022, "Analog Bits" (arXiv 2208.04202), Sec. 2.3 and Algorithm 2: from t the step is made, not to
the next time s of the grid, but to

    s - td (t - s),    at least 0

while the network is told s there, so it meets data with less noise than it believes, whose rest it removes. With few
steps and self-conditioning that makes better pictures; it is a bias on purpose, and with td > 0 no number of steps ends
at the data's law. On their even grid of N steps it is max(1 - (n + 1 + td)/N, 0). Book: chapter 4, "Self-conditioning".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.noise import Noise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Bound
from huggingvis.core.sampler import Sampler, State


@final
@dataclass(frozen=True)
class Asymmetric(Sampler):
    """`inner` with each step longer by its share `td`; 0: `inner` itself. The paper has it for DDIM and DDPM."""

    inner: Sampler
    td: float = 0.0

    def __post_init__(self) -> None:
        if self.td < 0:
            raise UsageError(f"An asymmetric step goes further than asked, by a share of 0 or more; found {self.td}.")

    @property
    def order(self) -> int:  # type: ignore[override]
        """That of `inner`; 0 with a bias."""
        return self.inner.order if self.td == 0.0 else 0

    def init(self) -> State:
        return self.inner.init()

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        return self.inner.step(denoise, process, x, t, (s - self.td * (t - s)).clamp(min=0.0), state, noise)
