"""What a training minimises: objectives own the nets they train and know no loop, device, file or logger.

`train.fit` asks an objective for its turns at each step (one for a VAE, two for a GAN) and sums the named losses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from huggingvis.core.errors import UsageError
from huggingvis.core.protocols import Batch

Losses = Mapping[str, Tensor]
"""Named scalars. Those that are minimised are weighted already; names starting with `_` are only logged."""


@dataclass(frozen=True)
class Turn:
    """One player's move: minimise `loss(batch, step, rng)` over the nets named in `nets`.

    It is taken every `every`-th step, `repeat` times (lazy regularisation; several critic steps per generator step).
    Raises `UsageError` where either is below 1.
    """

    loss: Callable[[Batch, int, torch.Generator], Losses]
    nets: tuple[str, ...]
    every: int = 1
    repeat: int = 1
    name: str = "loss"

    def __post_init__(self) -> None:
        if self.every < 1 or self.repeat < 1:
            raise UsageError(
                f"Turn {self.name!r} is taken every k-th step, n times, with k and n at least 1; found every "
                f"{self.every} and repeat {self.repeat}. Leave the turn out instead of never taking it."
            )


class Memory(nn.Module):
    """A helper of an objective whose buffers change in training: checkpoints keep them, as they keep its own."""


class Objective(nn.Module, ABC):
    """Base of everything that is trained."""

    @abstractmethod
    def nets(self) -> Mapping[str, nn.Module]:
        """The networks that training changes, by name. Frozen helpers are attributes but not listed."""

    @abstractmethod
    def turns(self, step: int) -> tuple[Turn, ...]:
        """The moves of step `step`, in order."""

    def after(
        self,
        turn: Turn,
        step: int,
        *,
        params: Mapping[str, list[nn.Parameter]],
        batch: Batch,
        reduce: Callable[[Tensor], Tensor],
    ) -> None:
        """Changes outside gradient descent after a turn's update: codebook averages, densification. Default: none.

        `reduce` averages a tensor over the data-parallel ranks.
        """

    def validate(self, batch: Batch, rng: torch.Generator) -> Losses:
        """Losses on held-out data; by default those of the first turn."""
        return self.turns(0)[0].loss(batch, 0, rng)
