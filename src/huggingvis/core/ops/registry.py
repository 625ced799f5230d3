"""Which implementation stands behind an operation's name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_current: dict[str, Callable[..., Any]] = {}


def implementation(name: str, default: Callable[..., Any]) -> Callable[..., Any]:
    """What `name` runs now: the replacement, or `default`."""
    return _current.get(name, default)


@contextmanager
def replace(name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Within the block, operation `name` is `function`."""
    before = _current.get(name)
    _current[name] = function
    try:
        yield
    finally:
        if before is None:
            del _current[name]
        else:
            _current[name] = before
