"""Alarms: a number that is watched while training stays where it should not, and someone should know.

An objective puts what it watches among its losses under names that begin with `_`; an alarm is a callback that names
the trouble once, with advice, on the screen and in metrics.jsonl (`trouble`). Book: the chapter on training.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import final

from huggingvis.train.callbacks import TrainStep


@final
@dataclass
class Alarm:
    """Rings when the loss `key` was below `least` whenever measured in `patience` steps, after the first `after`.

    `trouble`: its name. `advice`: what to do. It rings again only after the number was well for as long.
    """

    key: str
    least: float
    trouble: str
    advice: str
    after: int = 500
    patience: int = 200
    _read: int = field(default=0, init=False)
    _low: bool = field(default=False, init=False)
    _since: int = field(default=0, init=False)
    _rung: bool = field(default=False, init=False)

    def __call__(self, at: TrainStep) -> None:
        step = at.measured.get(self.key, 0)
        if step <= max(self.after, self._read):
            return
        self._read, value = step, at.losses[self.key]
        low = value < self.least
        if low != self._low:
            self._low, self._since = low, step
        lasting = step - self._since + 1 >= self.patience
        if not low:
            self._rung = self._rung and not lasting
        if not (low and lasting) or self._rung:
            return
        self._rung = True
        text = (
            f"{self.trouble}: {self.key} is {value:.3g}, below {self.least:g} for {self.patience} steps. {self.advice}"
        )
        name_trouble(at, text)


def name_trouble(at: TrainStep, text: str) -> None:
    """Says on the screen, and in metrics.jsonl under `trouble`, what is wrong and what to do."""
    print(f"step {at.step}: {text}", file=sys.stderr, flush=True)
    at.run.log(at.step, {"trouble": text})
