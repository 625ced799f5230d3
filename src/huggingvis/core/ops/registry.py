"""Which implementation stands behind an operation's name.

All compute the same but for rounding, so that it does no harm where a block of one thread is seen by another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

_current: dict[str, tuple[Callable[..., Any], ...]] = {}
_changing = Lock()


def implementation(name: str, default: Callable[..., Any]) -> Callable[..., Any]:
    """What `name` runs now: the latest replacement, or `default`."""
    replaced = _current.get(name)
    return replaced[-1] if replaced else default


@contextmanager
def replace(name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Within the block, operation `name` is `function`. Blocks of several threads may end in any order."""
    with _changing:
        _current[name] = (*_current.get(name, ()), function)
    try:
        yield
    finally:
        with _changing:
            replaced = _current[name]
            last = len(replaced) - 1 - replaced[::-1].index(function)
            _current[name] = replaced[:last] + replaced[last + 1 :]
