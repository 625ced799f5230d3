"""What a person sees while a training runs: a bar where there is a terminal, else now and then a line."""

from __future__ import annotations

import math
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Reporter(ABC):
    """Told of every step; speaks as often as is useful."""

    def __init__(self, first: int, last: int):
        self.first, self.last = first, last

    @abstractmethod
    def show(self, done: int, values: Mapping[str, float]) -> None:
        """`done` steps are done; `values` are the newest known losses."""

    def tell(self, what: str) -> None:
        """What is being done between two steps; nothing any more where it is empty."""
        return

    def close(self) -> None:
        """The training ended, well or not."""
        return


@final
class Silent(Reporter):
    """For processes other than the first."""

    def show(self, done: int, values: Mapping[str, float]) -> None:
        return


@final
class Bar(Reporter):
    """A live bar with losses and time left, on standard error."""

    def __init__(self, first: int, last: int):
        super().__init__(first, last)
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        self.progress = Progress(*columns, console=Console(stderr=True), refresh_per_second=4)
        self.task = self.progress.add_task("", total=last, completed=first)
        self.losses = ""
        self.progress.start()

    def show(self, done: int, values: Mapping[str, float]) -> None:
        self.losses = _losses(values)
        self.progress.update(self.task, completed=done, description=self.losses)

    def tell(self, what: str) -> None:
        self.progress.update(self.task, description=f"{self.losses}  {what}".rstrip())

    def close(self) -> None:
        self.progress.stop()


@final
class Lines(Reporter):
    """A line at the start, the end, for what comes after the end, and every `interval` seconds, on standard error."""

    def __init__(self, first: int, last: int, interval: float = 30.0):
        super().__init__(first, last)
        self.interval = interval
        self.began = self.spoke = time.monotonic()
        self.done = first

    def show(self, done: int, values: Mapping[str, float]) -> None:
        now, self.done = time.monotonic(), done
        if now - self.spoke < self.interval and done not in (self.first + 1, self.last):
            return
        self.spoke = now if done < self.last else -math.inf
        left = (now - self.began) / (done - self.first) * (self.last - done)
        print(f"step {done}/{self.last}  {_losses(values)}  {_clock(left)} left", file=sys.stderr, flush=True)

    def tell(self, what: str) -> None:
        now = time.monotonic()
        if what and now - self.spoke >= self.interval:
            self.spoke = now
            print(f"step {self.done}/{self.last}  {what}", file=sys.stderr, flush=True)


def reporter(first: int, last: int, asked: bool | None, speaks: bool) -> Reporter:
    """The reporter that suits the terminal and the wish."""
    if not speaks:
        return Silent(first, last)
    bar = sys.stderr.isatty() if asked is None else asked
    return Bar(first, last) if bar else Lines(first, last)


def _losses(values: Mapping[str, float]) -> str:
    return "  ".join(f"{key} {value:.4g}" for key, value in values.items() if "." not in key)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
