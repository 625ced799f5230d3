"""Batches for the loop, in an order that depends on nothing but their numbers; prepared ahead of it where that pays."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import final

import torch
from torch import Tensor

from huggingvis.core.protocols import Batch, Batches
from huggingvis.train.parallel import Parallel

WATCHED = 8
"""Rounds that tell what preparing costs."""
COSTLY = 0.25
"""Share of the loop's time from which on a thread prepares, on a CPU too."""


@final
class Prefetch:
    """Hands out rounds of data in order: round r is this process's pieces of the r-th global batch.

    For an accelerator a thread prepares `depth` rounds ahead. On the CPU it would take a core away from the steps in
    the middle of their sums, which costs a small net a third of its speed; so there the loop prepares its rounds
    itself, and the thread begins where that is seen to cost a good share of the time, as for files to decode.
    """

    def __init__(self, data: Batches, size: int, pieces: int, parallel: Parallel, depth: int, device: torch.device):
        self.data, self.size, self.pieces = data, size, pieces
        self.mine = range(parallel.rank, pieces, parallel.world)
        self.depth, self.device = depth, device
        self.next = 0
        self._ahead: deque[list[Future[Batch]]] = deque()
        self._thread: ThreadPoolExecutor | None = None
        self._costs = _Costs()

    def start(self, first: int) -> None:
        """Begins with round `first`."""
        self.next = first
        if self.device.type != "cpu":
            self._work_ahead()

    def take(self) -> list[Batch]:
        """The next round: one batch per piece of this process, on the device."""
        if self._thread is None and self._costs.high:
            self._work_ahead()
        number, self.next = self.next, self.next + 1
        if self._thread is None or not self.depth:
            with self._costs:
                batches = [self._prepare(index) for index in self._numbers(number)]
        else:
            self._ask(number + self.depth)
            batches = [future.result() for future in self._ahead.popleft()]
        return [to_device(batch, self.device) for batch in batches]

    def close(self) -> None:
        """Drops what was prepared and not used."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _work_ahead(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="huggingvis-data")
        for number in range(self.next, self.next + self.depth):
            self._ask(number)

    def _ask(self, number: int) -> None:
        assert self._thread is not None
        self._ahead.append([self._thread.submit(self._prepare, index) for index in self._numbers(number)])

    def _numbers(self, number: int) -> list[int]:
        return [number * self.pieces + piece for piece in self.mine]

    def _prepare(self, index: int) -> Batch:
        batch = self.data.batch(index, self.size)
        if self.device.type == "cuda":  # pinned memory lets the copy run beside the previous step
            batch = {key: value.pin_memory() if _on_cpu(value) else value for key, value in batch.items()}
        return batch


@final
class _Costs:
    """What share of the loop's time goes into preparing; entered around each round."""

    def __init__(self) -> None:
        self._spans: deque[tuple[float, float]] = deque(maxlen=WATCHED)

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *trouble: object) -> None:
        self._spans.append((self._began, time.perf_counter()))

    @property
    def high(self) -> bool:
        """Whether it is above `COSTLY`, known after `WATCHED` rounds."""
        if len(self._spans) < WATCHED:
            return False
        spent = sum(end - began for began, end in list(self._spans)[:-1])
        return spent > COSTLY * (self._spans[-1][0] - self._spans[0][0])


def _on_cpu(value: object) -> bool:
    return isinstance(value, Tensor) and value.device.type == "cpu"


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on `device`."""
    return {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}
