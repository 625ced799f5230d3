"""Batches for the loop: always in order, and prepared by a thread only where that pays."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from huggingvis.core.protocols import Batch
from huggingvis.recipes.setting import precision
from huggingvis.runtime.precision import usual
from huggingvis.train.parallel import Parallel
from huggingvis.train.prefetch import WATCHED, Prefetch
from huggingvis.train.settings import BFLOAT16, FLOAT32

CPU = torch.device("cpu")


class Clock:
    """Time that goes by only where a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("huggingvis.train.prefetch.time", made)
    return made


class Counted:
    """Batch i is the number i; `seconds` go by while it is prepared. Keeps who prepared it."""

    def __init__(self, clock: Clock, seconds: float):
        self.clock, self.seconds = clock, seconds
        self.by: list[str] = []

    def batch(self, index: int, size: int) -> Batch:
        self.clock.now += self.seconds
        self.by.append(threading.current_thread().name)
        return {"x": torch.full((size,), index)}


@contextmanager
def prefetch(data: Counted, *, pieces: int = 1, depth: int = 2, first: int = 0) -> Iterator[Prefetch]:
    made = Prefetch(data, 2, pieces, Parallel(), depth, CPU)
    made.start(first)
    try:
        yield made
    finally:
        made.close()


def taken(source: Prefetch, clock: Clock, rounds: int, step: float) -> list[list[int]]:
    """The numbers of `rounds` rounds, with `step` seconds between them."""
    out = []
    for _ in range(rounds):
        out.append([int(batch["x"][0]) for batch in source.take()])
        clock.now += step
    return out


def test_cheap_batches_are_prepared_by_the_loop_itself(clock: Clock) -> None:
    data = Counted(clock, 1.0)
    with prefetch(data) as source:
        assert taken(source, clock, 3 * WATCHED, 3.5) == [[i] for i in range(3 * WATCHED)]
    assert set(data.by) == {threading.main_thread().name}


def test_costly_batches_are_prepared_ahead_and_stay_in_order(clock: Clock) -> None:
    data = Counted(clock, 1.0)
    with prefetch(data, pieces=2, first=5) as source:
        numbers = taken(source, clock, 3 * WATCHED, 5.0)  # two seconds of seven
    assert numbers == [[2 * r, 2 * r + 1] for r in range(5, 5 + 3 * WATCHED)]
    assert set(data.by[: 2 * WATCHED]) == {threading.main_thread().name}
    assert all(name.startswith("huggingvis-data") for name in data.by[2 * WATCHED :])


def test_without_depth_nothing_is_prepared_ahead(clock: Clock) -> None:
    data = Counted(clock, 1.0)
    with prefetch(data, depth=0) as source:
        assert taken(source, clock, 2 * WATCHED, 0.0) == [[i] for i in range(2 * WATCHED)]
    assert set(data.by) == {threading.main_thread().name}


def test_auto_is_bf16_where_the_device_is_faster_in_it() -> None:
    expected = BFLOAT16 if usual(CPU) is torch.bfloat16 else FLOAT32
    assert precision("auto", CPU) == expected
    assert (precision("bf16", CPU), precision("fp32", CPU)) == (BFLOAT16, FLOAT32)


@pytest.mark.parametrize("cores", [("avx2",), ("avx2", "avx512_bf16")])
def test_auto_asks_the_machine(cores: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingvis.core.machine.instructions", lambda: cores)
    assert precision("auto", CPU) == (BFLOAT16 if "avx512_bf16" in cores else FLOAT32)
