"""Files of many requests, read into rows of named values: prompts (.txt), tables (.csv, .tsv), JSON lines (.jsonl).

    a red fox                                     a line of a .txt: a prompt,
    --prompt "a red fox" --steps 20 --cfg 7       or flags, as the web UI of A1111 reads them, quotation marks or not
    a red fox --seed 7                            or both
    # a line that is no request

    prompt,seed,size                              a table: its first line names the columns; an empty cell says nothing
    a red fox,7,96x64

    {"prompt": "a red fox", "sampling": {"steps": 20}}      JSON: a whole request, parts of one, or names as in a table

What the names mean is for the caller to say. Book: the three walks.
"""

from __future__ import annotations

import csv
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingvis.core.errors import FileProblem, UsageError, unknown
from huggingvis.core.files import explain

MOST_BYTES = 1 << 28
"""Of a file of rows; a longer one is something else."""
_FLAGS = re.compile(r"(?:^|\s)--(?=[A-Za-z])")


@dataclass(frozen=True)
class Cells:
    """One row: where it stands in its file, counted from 1, and its values by name.

    A value is a text, what JSON has, or a list of texts where a flag was given several times.
    """

    number: int
    values: Mapping[str, Any]


def read_rows(path: Path | str) -> list[Cells]:
    """The rows of a file. Raises `FileProblem` for a file that cannot be read as one, naming line and column."""
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise unknown("kind of file of requests", path.suffix or path.name, READERS)
    rows = list(reader(_text(path), path))
    if not rows:
        raise FileProblem(f"{path} holds no request: every line is empty or a comment. Write one request a line.")
    return rows


def _text(path: Path) -> str:
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise FileProblem(f"{path} has {size:,} bytes, more than a file of requests can. Name the right file.")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileProblem(
            f"{path} is no text in UTF-8: byte {error.start:,} is {error.object[error.start]:#04x}. Save it as UTF-8."
        ) from error
    except FileNotFoundError as error:
        raise FileProblem(f"There is no file {path}. Check the path.") from error
    except OSError as error:
        raise explain(error, path, "read") from error


# ---- prompts --------------------------------------------------------------------------------------------------------


def _prompts(text: str, path: Path) -> Iterator[Cells]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                yield Cells(number, words_of_line(line))
            except UsageError as error:
                raise FileProblem(f"{path}, line {number}: {error}") from error


def words_of_line(line: str) -> dict[str, Any]:
    """The values of a line: a prompt, flags, or a prompt and flags.

    Raises `UsageError` for an open quotation mark and for a table of JSON.
    """
    if _is_json(line):
        raise UsageError("this is a request in JSON, and lines of a .txt are prompts. Call the file .jsonl.")
    if _FLAGS.search(line) is None:
        return {"prompt": line.strip()}
    try:
        words = shlex.split(line)
    except ValueError:
        raise UsageError(
            "a quotation mark or apostrophe is opened and never closed. In a line with flags, write a prompt that has "
            'one in double quotation marks: --prompt "a fox\'s den".'
        ) from None
    found: dict[str, list[str]] = {}
    name = "prompt"
    for word in words:
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            found.setdefault(name, []).append(value if equals else "")
        elif name in found:
            found[name][-1] = f"{found[name][-1]} {word}".strip()  # prompts stand there without quotation marks too
        else:
            found[name] = [word]
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def _is_json(line: str) -> bool:
    """Whether the line is a JSON table; {a|b} of a prompt is none."""
    try:
        return line.lstrip().startswith("{") and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


# ---- tables ---------------------------------------------------------------------------------------------------------


def _table(text: str, path: Path) -> Iterator[Cells]:
    reader = csv.reader(text.splitlines(keepends=True), delimiter=_delimiter(text, path), strict=True)
    columns: list[str] = []
    while True:
        first = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise FileProblem(f"{path}, line {first}: {error}. Check its quotation marks.") from error
        if cells is None:
            return
        if not any(cell.strip() for cell in cells):
            continue
        if not columns:
            columns = _columns(cells, path)
            continue
        if any(cell.strip() for cell in cells[len(columns) :]):
            raise FileProblem(
                f"{path}, line {first}: {len(cells)} cells for {len(columns)} columns. Put a cell that has a comma in "
                "it in quotation marks."
            )
        values = {name: cell.strip() for name, cell in zip(columns, cells, strict=False) if cell.strip()}
        yield Cells(first, {name: value for name, value in values.items() if not name.startswith("#")})


def _columns(cells: list[str], path: Path) -> list[str]:
    columns = [cell.strip() for cell in cells]
    while columns and not columns[-1]:
        columns.pop()
    for column in columns:
        if not column or columns.count(column) > 1:
            fault = f"the column {column!r} is there twice" if column else "a column has no name"
            raise FileProblem(f"{path}, line 1: {fault}. The first line names every column once.")
    return columns


def _delimiter(text: str, path: Path) -> str:
    head = next((line for line in text.splitlines() if line.strip()), "")
    return "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=head.count)


# ---- JSON -----------------------------------------------------------------------------------------------------------


def _json_lines(text: str, path: Path) -> Iterator[Cells]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _cells(_parsed(line, path, number), path, number)


def _json(text: str, path: Path) -> Iterator[Cells]:
    """A list of rows, numbered from 1."""
    told = _parsed(text, path, 1)
    if not isinstance(told, list):
        raise FileProblem(f"{path} should hold a list of requests; found {type(told).__name__}. Or name it .jsonl.")
    for number, row in enumerate(told, start=1):
        yield _cells(row, path, number)


def _parsed(text: str, path: Path, number: int) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileProblem(f"{path}, line {number}: expected JSON, but it does not parse: {error}.") from error


def _cells(told: Any, path: Path, number: int) -> Cells:
    if isinstance(told, str):
        return Cells(number, {"prompt": told})
    if not isinstance(told, dict):
        raise FileProblem(f"{path}, row {number}: expected a request {{...}} or a prompt, found {told!r:.60}.")
    return Cells(number, {name: value for name, value in told.items() if value is not None})


READERS: Mapping[str, Callable[[str, Path], Iterator[Cells]]] = {
    ".txt": _prompts, ".csv": _table, ".tsv": _table, ".jsonl": _json_lines, ".ndjson": _json_lines, ".json": _json,
}  # fmt: skip
