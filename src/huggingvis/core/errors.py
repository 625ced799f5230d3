"""Errors that explain themselves: what was expected, what was found, what to do.

Every mistake a user can make is reported as an `HvisError`; the command line prints its one paragraph and leaves
with `exit_code`, never with a traceback.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


class HvisError(Exception):
    """A mistake that can be explained. `exit_code` is what the command line leaves with.

    `result`: what was reached before, in JSON values, where work of many parts failed in some of them.
    """

    exit_code = 1
    result: Mapping[str, Any] | None = None


class UsageError(HvisError):
    """A value outside what is allowed: unknown name, impossible size, empty prompt."""

    exit_code = 2


class FileProblem(HvisError):
    """A file or folder that is missing, truncated, hostile or not what it was said to be."""

    exit_code = 3


class MissingExtra(HvisError):
    """An optional library is not installed; the message names the extra that brings it."""

    exit_code = 4


class NumericalTrouble(HvisError):
    """NaN or infinity where numbers were expected."""

    exit_code = 5


class Cancelled(HvisError):
    """The user asked to stop (ctrl-C, studio button). Nothing half-written is left behind."""

    exit_code = 130


class SomeFailed(HvisError):
    """Of many pieces of work some failed; the others are done."""

    exit_code = 1

    def __init__(self, message: str, result: Mapping[str, Any]):
        super().__init__(message)
        self.result = result


def nearest(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """Up to `n` members of `known` that look like `name`, best first; case and `-`/`_` do not matter."""
    plain = {key.lower().replace("_", "-"): key for key in known}
    close = difflib.get_close_matches(name.lower().replace("_", "-"), plain, n=n, cutoff=0.5)
    return [plain[key] for key in close]


def no_file(path: Path | str, advice: str = "Check the path.") -> FileProblem:
    """The error for a file that is not there: names those beside its place that are called alike."""
    folder = Path(path).parent
    try:
        close = nearest(Path(path).name, (entry.name for entry in folder.iterdir()))
    except OSError:
        close = []
    near = f"Did you mean {' or '.join(str(folder / name) for name in close)}? " if close else ""
    return FileProblem(f"There is no file {path}. {near}{advice}")


def unknown(kind: str, name: str, known: Iterable[str], *, lister: str = "") -> UsageError:
    """The error for a name that is not in a table: suggests the nearest, or lists what there is.

    `lister`: a command that lists the table, named in the place of the list where that would be a wall of names.
    """
    known = sorted(known)
    close = nearest(name, known)
    listed = f"Known: {', '.join(known)}." if known else "There is none yet."
    hint = f"Did you mean {' or '.join(repr(c) for c in close)}?" if close else listed
    if lister:
        hint = f"{hint} `{lister}` lists all." if close else f"`{lister}` lists those that there are."
    return UsageError(f"There is no {kind} called {name!r}. {hint}")


@contextlib.contextmanager
def about(path: Path | str) -> Iterator[None]:
    """A block that reads what lies at `path`: what it refuses is `FileProblem`, and tells the path."""
    try:
        yield
    except (UsageError, FileProblem) as error:
        told = str(error)
        if str(path) not in told:
            told = f"{path}: {told}"
        elif isinstance(error, FileProblem):
            raise
        raise FileProblem(told) from error
