"""Tensors read from a place in a file, in pieces, straight into the type and on the device they are wanted in.

A mapped file is the cheapest way to have tensors as they are stored, but a cast through it leaves two copies resident:
the new tensors, and every page of the file that was looked at. Here a fixed buffer goes over the numbers instead, so
that a cast costs the new tensors and the buffer. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, final

import torch
from torch import Tensor

from huggingvis.core.errors import FileProblem

PIECE = 4 << 20
"""Bytes of a file in memory at a time."""


@final
@dataclass(frozen=True)
class Target:
    """The type floating tensors shall have (None: their own), the device all shall be on, and the layout of maps.

    `channels_last`: weights of convolutions are laid out so at once, and not copied into it later.
    """

    dtype: torch.dtype | None = None
    device: torch.device | str = "cpu"
    channels_last: bool = False

    def dtype_of(self, stored: torch.dtype) -> torch.dtype:
        """What a tensor that is stored as `stored` becomes."""
        return self.dtype if self.dtype is not None and stored.is_floating_point else stored

    def turns(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor of this shape lies otherwise than its file has it."""
        return self.channels_last and len(shape) == 4 and shape[1] > 1 and prod(shape[2:]) > 1

    def changes(self, stored: torch.dtype, shape: tuple[int, ...]) -> bool:
        """Whether a tensor stored so must be copied to be as wanted."""
        return self.dtype_of(stored) != stored or torch.device(self.device).type != "cpu" or self.turns(shape)

    def place(self, tensor: Tensor) -> Tensor:
        """`tensor` as wanted; itself where it is so already."""
        layout = torch.channels_last if self.turns(tuple(tensor.shape)) else torch.preserve_format
        return tensor.to(device=self.device, dtype=self.dtype_of(tensor.dtype), memory_format=layout)


@final
class Stream:
    """A file open for reading tensors in pieces; use it in a `with`."""

    def __init__(self, path: Path, target: Target):
        self._path, self._target = path, target
        self._file = path.open("rb", buffering=0)
        self._piece = torch.empty(0, dtype=torch.uint8)

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def read(self, begin: int, shape: tuple[int, ...], stored: torch.dtype) -> Tensor:
        """The contiguous tensor of `shape` that lies at byte `begin` as numbers of type `stored`, as wanted."""
        target = self._target
        turned = target.turns(shape)
        layout = torch.channels_last if turned else torch.contiguous_format
        out = torch.empty(shape, dtype=target.dtype_of(stored), device=target.device, memory_format=layout)
        self._file.seek(begin)
        if turned and prod(shape[1:]) * stored.itemsize <= PIECE:
            for some in out.split(PIECE // (prod(shape[1:]) * stored.itemsize)):  # whole filters
                raw = self._next(some.numel(), stored).view(some.shape)
                some.copy_(raw.to(out.dtype))  # the cast stays in cache: turning the narrow type is the quicker
        elif turned:
            out.copy_(self.read(begin, (prod(shape),), stored).view(shape))
        else:
            for some in out.view(-1).split(PIECE // stored.itemsize):
                some.copy_(self._next(some.numel(), stored))
        return out

    def _next(self, count: int, stored: torch.dtype) -> Tensor:
        """The next `count` numbers of the file, until they are asked for again."""
        if self._piece.numel() == 0:
            self._piece = torch.empty(PIECE, dtype=torch.uint8)
        raw = self._piece[: count * stored.itemsize]
        self._fill(raw)
        return raw.view(stored)

    def _fill(self, raw: Tensor) -> None:
        numbers: Any = raw.numpy()
        view = memoryview(numbers)
        while view:
            got = self._file.readinto(view)
            if not got:
                raise FileProblem(
                    f"{self._path} became shorter while it was read. Close what writes to it; load it again."
                )
            view = view[got:]
