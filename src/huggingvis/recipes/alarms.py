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
    """Rings when the loss `key` has been below `least` for `patience` steps on end, after the first `after` steps.

    `trouble`: its name. `advice`: what to do. It rings again only after the number was well for as long.
    """

    key: str
    least: float
    trouble: str
    advice: str
    after: int = 500
    patience: int = 200
    _low: int = field(default=0, init=False)
    _well: int = field(default=0, init=False)
    _rung: bool = field(default=False, init=False)

    def __call__(self, at: TrainStep) -> None:
        value = at.losses.get(self.key)
        if value is None or at.step <= self.after:
            return
        low = value < self.least
        self._low, self._well = (self._low + 1, 0) if low else (0, self._well + 1)
        if self._well >= self.patience:
            self._rung = False
        if self._low < self.patience or self._rung:
            return
        self._rung = True
        text = (
            f"{self.trouble}: {self.key} is {value:.3g}, below {self.least:g} for {self.patience} steps. {self.advice}"
        )
        print(f"step {at.step}: {text}", file=sys.stderr, flush=True)
        at.run.log(at.step, {"trouble": text})
