"""What a training on record is: a recipe with its numbers, the data, and the words of `hvis evaluate` that measure it.

Rows of `published_rows.py` and `foundation_rows.py` are trainings; `published.py` plans, measures and keeps them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

VARIABLE = "$HUGGINGVIS_TESTDATA"
MNIST = f"mnist:{VARIABLE}/images/mnist"
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
        evaluate: the words of `hvis evaluate` that tell its figures, without the split.
        draws: random draws of each number; none: the family's own.
        minutes: what the training takes on one quiet core, or on two where the page says so.
    """

    system: str
    recipe: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    data: str | None = MNIST
    curve: str = ""
    evaluate: tuple[str, ...] = ("",)
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
