"""What a training is told besides its objective and data: seeds, accumulation, precision, how often to report."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import final

import torch

from huggingvis.core.errors import UsageError
from huggingvis.core.protocols import Batches


@final
@dataclass(frozen=True)
class Precision:
    """The dtype that matrix products and convolutions run in while weights stay float32; None: as the weights are."""

    autocast: torch.dtype | None = None

    def context(self, device: torch.device) -> AbstractContextManager[object]:
        """What the forward pass and the losses run under."""
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(device.type, dtype=self.autocast)


FLOAT32 = Precision()
BFLOAT16 = Precision(torch.bfloat16)


@final
@dataclass(frozen=True)
class Validation:
    """Every `every` steps, the losses on the first `batches` batches of held-out `data`, with the averaged weights."""

    data: Batches
    every: int = 1000
    batches: int = 8


@final
@dataclass(frozen=True)
class FitSettings:
    """Numbers of the loop itself. Intervals are in optimiser steps; 0 means never."""

    seed: int = 0
    accumulate: int = 1
    """Pieces that the batch is cut into. Processes share the pieces, and noise is drawn per piece: a training keeps
    its numbers (to rounding) on another count of processes as long as that count divides `accumulate`."""
    precision: Precision = FLOAT32
    validation: Validation | None = None
    log_every: int = 50
    save_every: int = 1000
    keep_last: int = 2
    keep_every: int = 0
    """Checkpoints at multiples of this stay for good, besides the `keep_last` newest."""
    prefetch: int = 2
    """Batches prepared ahead of the loop, where that pays (`train.prefetch`)."""
    progress: bool | None = None
    """True: a bar on standard error; False: now and then a line; None: a bar if standard error is a terminal."""

    def __post_init__(self) -> None:
        for name, least in (("accumulate", 1), ("log_every", 1), ("keep_last", 1), ("save_every", 0), ("prefetch", 0)):
            found = getattr(self, name)
            if found < least:
                raise UsageError(f"{name} should be at least {least}, found {found}. Give a larger number.")


@final
@dataclass(frozen=True)
class Sizes:
    """How a training is cut: items per optimiser step, equal pieces of them over all processes, and steps."""

    batch_size: int
    pieces: int
    steps: int

    @classmethod
    def of(cls, batch_size: int, steps: int, settings: FitSettings, world: int) -> Sizes:
        """For `world` processes. Raises `UsageError` where the pieces would not be equal."""
        pieces = -(-settings.accumulate // world) * world
        if batch_size < 1 or batch_size % pieces:
            raise UsageError(
                f"A batch of {batch_size} items cannot be cut into {pieces} equal pieces ({settings.accumulate} to "
                f"accumulate, {world} processes). Choose a batch size that {pieces} divides."
            )
        return cls(batch_size, pieces, steps)

    @property
    def piece(self) -> int:
        """Items of one piece."""
        return self.batch_size // self.pieces
