"""Batches prepared by a thread ahead of the loop, in an order that depends on nothing but their numbers."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import final

import torch
from torch import Tensor

from huggingvis.core.protocols import Batch, Batches
from huggingvis.train.parallel import Parallel


@final
class Prefetch:
    """Hands out rounds of data in order: round r is this process's pieces of the r-th global batch."""

    def __init__(self, data: Batches, size: int, pieces: int, parallel: Parallel, depth: int, device: torch.device):
        self.data, self.size, self.pieces = data, size, pieces
        self.mine = range(parallel.rank, pieces, parallel.world)
        self.depth, self.device = depth, device
        self.next = 0
        self._ahead: deque[list[Future[Batch]]] = deque()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="huggingvis-data")

    def start(self, first: int) -> None:
        """Begins with round `first`."""
        self.next = first
        for ahead in range(self.depth):
            self._ask(first + ahead)

    def take(self) -> list[Batch]:
        """The next round: one batch per piece of this process, on the device."""
        self._ask(self.next + self.depth)
        self.next += 1
        return [to_device(future.result(), self.device) for future in self._ahead.popleft()]

    def close(self) -> None:
        """Drops what was prepared and not used."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _ask(self, number: int) -> None:
        numbers = [number * self.pieces + piece for piece in self.mine]
        self._ahead.append([self._thread.submit(self._prepare, index) for index in numbers])

    def _prepare(self, index: int) -> Batch:
        batch = self.data.batch(index, self.size)
        if self.device.type == "cuda":  # pinned memory lets the copy run beside the previous step
            batch = {key: value.pin_memory() if _on_cpu(value) else value for key, value in batch.items()}
        return batch


def _on_cpu(value: object) -> bool:
    return isinstance(value, Tensor) and value.device.type == "cpu"


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on `device`."""
    return {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}
