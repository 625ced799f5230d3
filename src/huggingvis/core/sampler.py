"""What a sampler is: a step from x_t to x_s, made of what a model believes of x_0.

Every sampler of the library is a frozen dataclass of numbers with two methods (`init`, `step`); its history is a value
that the loop (`core.sample`) carries, so a step is a pure function and can be replayed, differentiated or run
backwards. Book: chapter 4, "The loop".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol, TypeVar

from torch import Tensor

from huggingvis.core.noise import Noise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Bound

State = Any
"""A sampler's history between steps: `None`, or a tuple of tensors and times. Never mutated."""


class Renoises(Protocol):
    """What the loop itself asks of a process, of numbers (`core.process`) or of classes (`core.categorical`)."""

    def renoise(self, x: Tensor, t: Tensor, s: Tensor, eps: Tensor) -> Tensor: ...


P = TypeVar("P", bound=Renoises)
Walked = TypeVar("Walked", bound=Renoises, contravariant=True)


class Steps(Protocol[Walked]):
    """What the loop asks of a sampler, on the kind of process that it walks."""

    def init(self) -> State: ...

    def step(
        self, denoise: Bound, process: Walked, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]: ...


class Sampler(ABC):
    """Integrates belief into a sample. Subclasses are frozen dataclasses; `order` is their order of convergence.

    `plain`: it reads no more of a process than `signal` and `sigma`, and so runs on a `Degradation` too.
    """

    order: int
    plain: bool = False

    def init(self) -> State:
        """History before the first step."""
        return None

    @abstractmethod
    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        """From x_t to x_s, s < t. `t` and `s` are 0-dim float64 CPU tensors."""
