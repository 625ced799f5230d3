"""Options of a request as numbers: every mistake in one is told in a sentence.

Options are words, `--set NAME=VALUE` on the command line, which only some models read (`Limits.options`).
"""

from __future__ import annotations

import math

from huggingvis.core.errors import UsageError
from huggingvis.core.request import Request
from huggingvis.core.request_fields import sides_of


def number(request: Request, name: str, usual: float) -> float:
    """A finite number; `usual` where nothing is said. Raises `UsageError`."""
    word = request.options.get(name)
    try:
        found = usual if word is None else float(word)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise UsageError(f"{name} is a number, usually {usual:g}; found {word!r}.")
    return found


def pair(request: Request, name: str, usual: tuple[int, int]) -> tuple[int, int]:
    """Two whole numbers, written 1024x1024; `usual` where nothing is said. Raises `UsageError`."""
    word = request.options.get(name)
    if word is None:
        return usual
    sides = sides_of(word, square=False)
    if sides is None:
        raise UsageError(f"{name} is two whole numbers such as 1024x1024, found {word!r}.")
    return sides


def truth(request: Request, name: str, usual: bool) -> bool:
    """yes or no; `usual` where nothing is said. Raises `UsageError`."""
    word = request.options.get(name, "yes" if usual else "no")
    if word not in ("yes", "no"):
        raise UsageError(f"{name} is yes or no, found {word!r}.")
    return word == "yes"
