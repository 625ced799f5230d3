"""Rules about single values of a request; each raises `UsageError` that names the value, what may be and what was."""

from __future__ import annotations

import math

from huggingvis.core.errors import UsageError


def whole(name: str, value: int, low: int, high: int, *, unit: str = "", also: str = "") -> None:
    """A whole number within bounds. `also`: what may be said besides, and was turned into such a number before."""
    if not low <= value <= high:
        raise UsageError(f"{name} must be between {low} and {high}{unit}{also}, found {value}.")


def number(name: str, value: float, low: float, high: float) -> None:
    """A finite number within bounds."""
    if not (math.isfinite(value) and low <= value <= high):
        raise UsageError(f"{name} must be a number between {low:g} and {high:g}, found {value}.")


def share(name: str, value: float) -> None:
    """Some of a whole: more than nothing, at most all."""
    if not 0.0 < value <= 1.0:
        raise UsageError(f"{name} must be above 0 and at most 1, found {value}.")


def path(name: str, value: str) -> None:
    """A text that can name a file."""
    if not value.strip() or "\0" in value:
        raise UsageError(f"{name} must name a file, found {value!r}.")
