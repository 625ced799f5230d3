"""What is seen of a picture that a model shall draw again: a part of it, a small version, or its grey values.

The tasks of conditional models: inpainting, super-resolution, colouring. An observation is a picture too, [B, C, H, W]
in [-1, 1], so that a network of pairs has both on one lattice. Book: chapter 4, "Different speeds".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor
from torch.nn import functional as F

from huggingvis.core.errors import UsageError


class Observation(Protocol):
    """What is seen of pictures x [B, C, H, W]."""

    def __call__(self, x: Tensor) -> Tensor:
        """The observation y, shaped like x."""
        ...

    def mask(self, x: Tensor) -> Tensor:
        """Where y equals x, bool [1, 1, H, W]."""
        ...


@final
@dataclass(frozen=True)
class WithoutBox:
    """All but a square in the middle, whose side is the share `side` of the picture's; it is mid-grey."""

    side: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.side < 1:
            raise UsageError(f"The hidden square has a share between 0 and 1 of the picture's side, found {self.side}.")

    def mask(self, x: Tensor) -> Tensor:
        seen = torch.ones(1, 1, *x.shape[2:], dtype=torch.bool, device=x.device)
        tops = [round(n * (1 - self.side) / 2) for n in x.shape[2:]]
        rows, columns = (slice(top, n - top) for top, n in zip(tops, x.shape[2:], strict=True))
        seen[:, :, rows, columns] = False
        return seen

    def __call__(self, x: Tensor) -> Tensor:
        return x * self.mask(x)


@final
@dataclass(frozen=True)
class Small:
    """The means of squares of `factor` x `factor` pixels."""

    factor: int = 4

    def __post_init__(self) -> None:
        if self.factor < 2:
            raise UsageError(f"A small picture is at least 2 times smaller, found {self.factor}.")

    def mask(self, x: Tensor) -> Tensor:
        return torch.zeros(1, 1, *x.shape[2:], dtype=torch.bool, device=x.device)

    def __call__(self, x: Tensor) -> Tensor:
        if x.shape[2] % self.factor or x.shape[3] % self.factor:
            raise UsageError(
                f"Pictures of {x.shape[2]} x {x.shape[3]} pixels cannot be made {self.factor} times smaller. Ask for a "
                "--size that is a multiple of the factor."
            )
        return F.interpolate(F.avg_pool2d(x, self.factor), scale_factor=self.factor, mode="nearest")


@final
@dataclass(frozen=True)
class Grey:
    """The mean of the channels, in each of them."""

    def mask(self, x: Tensor) -> Tensor:
        return torch.zeros(1, 1, *x.shape[2:], dtype=torch.bool, device=x.device)

    def __call__(self, x: Tensor) -> Tensor:
        return x.mean(1, keepdim=True).expand_as(x)
