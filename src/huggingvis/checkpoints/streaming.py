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
    """The type floating tensors shall have (None: their own), and the device all shall be on."""

    dtype: torch.dtype | None = None
    device: torch.device | str = "cpu"

    def dtype_of(self, stored: torch.dtype) -> torch.dtype:
        """What a tensor that is stored as `stored` becomes."""
        return self.dtype if self.dtype is not None and stored.is_floating_point else stored

    def changes(self, stored: torch.dtype) -> bool:
        """Whether a tensor stored so must be copied to be as wanted."""
        return self.dtype_of(stored) != stored or torch.device(self.device).type != "cpu"

    def place(self, tensor: Tensor) -> Tensor:
        """`tensor` as wanted; itself where it is so already."""
        return tensor.to(device=self.device, dtype=self.dtype_of(tensor.dtype))


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
        out = torch.empty(shape, dtype=target.dtype_of(stored), device=target.device)
        flat, count, size = out.view(-1), prod(shape), stored.itemsize
        step = PIECE // size
        if self._piece.numel() == 0:
            self._piece = torch.empty(PIECE, dtype=torch.uint8)
        self._file.seek(begin)
        for at in range(0, count, step):
            many = min(step, count - at)
            raw = self._piece[: many * size]
            self._fill(raw)
            flat[at : at + many].copy_(raw.view(stored))
        return out

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
