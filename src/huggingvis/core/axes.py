"""Axes of a grid: one field of a request and the values it takes, as a command line says them.

    steps=5,10,20                  values between commas, in quotation marks where they have a comma themselves
    seed=1-4   cfg=1-7 (+3)        whole numbers between two, or with a step: 1, 4, 7
    cfg=1..7:4   strength=0-1 [5]  so many numbers from end to end: 1, 3, 5, 7
    prompt:fox,cat                 search and replace: the first is looked for in the prompt, each takes its place

The ranges with brackets are those of A1111's web UI. Book: the three walks.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from huggingvis.core import config
from huggingvis.core.errors import UsageError
from huggingvis.core.request_fields import kind_of, plain_name

MOST_CELLS = 1000
_NUMBER = r"\s*([+-]?\d+(?:\.\d*)?|[+-]?\.\d+)\s*"
_RANGE = re.compile(rf"{_NUMBER}(?:-|\.\.){_NUMBER}(?:\(\s*([+-]?\d*\.?\d+)\s*\)|\[\s*(\d+)\s*\]|:\s*(\d+))?\s*")
_AXIS = re.compile(r"\s*([^=:]+?)\s*([=:])(.*)", re.DOTALL)
_MOST_VALUES = 10_000


@dataclass(frozen=True)
class Axis:
    """`name`: a field (`core.request_fields`), a flag, `model` or `prompt:WORDS`; `values`: what it is set to."""

    name: str
    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise UsageError(f"The axis {self.name!r} has no values. Write some, as in {self.name}=1,2,3.")

    @classmethod
    def parse(cls, words: str) -> Axis:
        """As a command line says it. Raises `UsageError` for what does not parse."""
        found = _AXIS.fullmatch(words)
        if found is None or (found[2] == ":" and plain_name(found[1]) != "prompt"):
            raise UsageError(
                f"An axis is a field and its values, as in steps=5,10,20 or cfg=1..7:4, or words of the prompt and "
                f"what takes their place, as in prompt:fox,cat; found {words!r}."
            )
        name, values = found[1], _split(found[3])
        if found[2] == ":":
            if not values:
                raise UsageError("Search and replace takes the words to look for first, as in prompt:fox,cat.")
            return cls(f"prompt:{values[0]}", tuple(values))
        numeric = {int, float} & {*config.members(kind_of(name))}
        return cls(name, tuple(_ranged(values, whole=float not in numeric) if numeric else values))

    @property
    def label(self) -> str:
        """What it is called on a sheet."""
        return "" if self.name.startswith("prompt:") else self.name

    def labels(self) -> tuple[str, ...]:
        """One for each value."""
        return tuple(f"{self.label} {_shown(value)}".strip() for value in self.values)


def cells_of(axes: Sequence[Axis | None], most: int = MOST_CELLS) -> list[dict[str, Any]]:
    """The values of every cell by name, the last axis slowest. Raises `UsageError` for too many, or one axis twice."""
    used = [axis for axis in axes if axis is not None]
    names = [plain_name(axis.name) for axis in used]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"Two axes are called {twice!r}: one would hide the other. Give each its own field.")
    count = 1
    for axis in used:
        count *= len(axis.values)
    if count > most:
        sizes = " x ".join(str(len(axis.values)) for axis in used)
        raise UsageError(
            f"The grid has {sizes} = {count:,} cells, each a picture; at most {most:,} are made unasked. Take fewer "
            f"values, or allow that many (--most-cells {count})."
        )
    slowest = [[(axis.name, value) for value in axis.values] for axis in reversed(used)]
    return [dict(pairs) for pairs in product(*slowest)]


def _split(text: str) -> list[str]:
    """Values between commas."""
    (values,) = csv.reader([text], skipinitialspace=True) or [[]]
    return [value.strip() for value in values if value.strip()]


def _ranged(values: Sequence[str], whole: bool) -> Iterator[str]:
    for value in values:
        found = _RANGE.fullmatch(value)
        yield from [value] if found is None else _numbers(value, found, whole)


def _numbers(text: str, found: re.Match[str], whole: bool) -> list[str]:
    first, last, parts = float(found[1]), float(found[2]), found[4] or found[5]
    if parts is not None:
        count = int(parts)
        _check_count(text, count)
        step = (last - first) / (count - 1) if count > 1 else 0.0
    else:
        step = float(found[3]) if found[3] else 1.0 if last >= first else -1.0
        if step == 0.0 or (last - first) / step < 0.0:
            raise UsageError(f"The range {text!r} never arrives: {step:+g} does not lead from {first:g} to {last:g}.")
        count = int((last - first) / step + 1e-9) + 1
        _check_count(text, count)
    numbers = [first + n * step for n in range(count)]
    return list(dict.fromkeys(str(round(number)) if whole else f"{number:.10g}" for number in numbers))


def _check_count(text: str, count: int) -> None:
    if not 1 <= count <= _MOST_VALUES:
        raise UsageError(f"The range {text!r} has {count:,} values; an axis has 1 to {_MOST_VALUES:,}.")


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
