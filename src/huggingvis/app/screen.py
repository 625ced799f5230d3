"""What a verb says: lines and progress for people, or one JSON document for programs."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any, final

Tick = Callable[[int], None]


@final
class Screen:
    """Results on standard output, all else on standard error. With `json`, results are one document at the end."""

    def __init__(self, json: bool):
        self.json = json
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a Chinese prompt in a terminal that has only ASCII

    def say(self, text: str) -> None:
        """A line of the result, for people only."""
        if not self.json:
            print(text)

    def note(self, text: str) -> None:
        """Something worth knowing, as a wrapped paragraph on standard error."""
        print(_wrapped(text), file=sys.stderr)

    def finish(self, result: Any) -> None:
        """The end of a verb that went well."""
        if self.json:
            print(json.dumps(result, ensure_ascii=False, indent=2, allow_nan=False))

    def fail(self, message: str, record: Mapping[str, object], result: Mapping[str, object] | None = None) -> None:
        """The end of a verb that failed; `result`: what it reached before."""
        self.note(message)
        if self.json:
            print(json.dumps({**(result or {}), "error": dict(record)}, ensure_ascii=False, indent=2))

    @contextlib.contextmanager
    def quiet_output(self) -> Iterator[None]:
        """With `json`, whatever else prints to standard output inside is sent to standard error."""
        with contextlib.redirect_stdout(sys.stderr) if self.json else contextlib.nullcontext():
            yield

    @contextlib.contextmanager
    def progress(self, label: str, total: int) -> Iterator[Tick]:
        """A bar on standard error where that is a terminal; the value it gives is told how much is done."""
        if not sys.stderr.isatty():
            yield lambda done: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(label, total=total)
            yield lambda done: bar.update(task, completed=done)


def _wrapped(text: str) -> str:
    width = max(40, min(100, shutil.get_terminal_size().columns))
    lines = (textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False) for line in text.splitlines())
    return "\n".join(lines)


def size_of(count: int) -> str:
    """Bytes as people say them."""
    amount, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
