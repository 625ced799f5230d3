"""What a training on record is: a recipe with its numbers, the data, and the words of `hvis evaluate` that measure it.

Rows of `published_rows.py`, `family_rows.py` and `foundation_rows.py` are trainings; `published.py` plans, measures and
keeps them.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from common import VARIABLE

from huggingvis.app.commands.evaluate import KINDS, PICTURES

MNIST = f"mnist:{VARIABLE}/images/mnist"
JUDGE = f"{VARIABLE}/weights/mnist_classifier/lenet_epoch=12_test_acc=0.991.pth"
ACCURACY = f"--accuracy 500 --judge {JUDGE}"
"""Words for the share of 500 digits, each class in turn, that a LeNet takes for what was asked for."""
RUN_FOLDERS = "runs/"
"""Begins the run folders that rows name; where they really are is told to the command."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """A training and how it is measured.

    Attributes:
        system: what is trained.
        recipe: ours.
        numbers: what differs from the recipe's defaults; what is built on another row names its folder, `runs/ROW`.
        data: none: that of the row it is built on.
        curve: the held-out number whose course is kept.
        evaluate: the words of `hvis evaluate` that tell its figures, without the split; where there are none, and
            nothing held out, what its recipe tells of a truth of its data.
        held_out: figures from its own last validation; STAGE.NAME from that of a stage before it.
        draws: random draws of each number; none: the family's own.
        minutes: what the training takes on one quiet core, or on two where the page says so.
    """

    system: str
    recipe: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    data: str | None = MNIST
    curve: str = ""
    evaluate: tuple[str, ...] = ("",)
    held_out: tuple[str, ...] = ()
    draws: int | None = None
    minutes: float = 12

    @property
    def config(self) -> dict[str, Any]:
        """All that differs from the recipe's defaults."""
        return dict(self.numbers) | ({} if self.data is None else {"data": self.data})

    @property
    def needs(self) -> tuple[str, ...]:
        """The rows that it is built on."""
        named = (value for value in self.numbers.values() if isinstance(value, str))
        return tuple(value.removeprefix(RUN_FOLDERS) for value in named if value.startswith(RUN_FOLDERS))

    @property
    def stages(self) -> tuple[str, ...]:
        """Those with steps and a run folder of their own before the last one."""
        return tuple(name for name, value in self.numbers.items() if isinstance(value, Mapping) and "steps" in value)


def taken(words: str) -> tuple[str, ...]:
    """Flags that go together with words of `hvis evaluate`: data, split, root, limit and draws, or some of them."""
    said = shlex.split(words)
    asked = next((name for name in KINDS if f"--{name.replace('_', '-')}" in said), "draws")
    return ("draws", *PICTURES) if asked in ("draws", *PICTURES) else KINDS[asked].beside
