"""Files that rows of a file name: looked for beside the file of the rows, then in the working folder.

Which part of a value is a file, who reads the value says: a LoRA may have its weight behind, `style.safetensors:0.8`, a
control stands between a way to prepare its picture and numbers, `canny:edges.png:0.7`. Book: the three walks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from huggingvis.core.errors import HvisError
from huggingvis.core.request_fields import plain_name
from huggingvis.core.row_files import Cells, read_rows
from huggingvis.recipes.beside import weighted
from huggingvis.recipes.controls import with_files

Placed = Callable[[str], str]
"""The path of a file that is beside the rows; any other word as it is."""


def rows_in(path: Path | str) -> list[Cells]:
    """The rows of a file, with the files beside it named from here. Raises as `read_rows`."""
    path = Path(path)
    rows = read_rows(path)
    if path.parent.absolute() == Path.cwd():
        return rows

    def placed(word: str) -> str:
        there = os.path.join(path.parent, word)
        return there if word.strip(". ") and os.path.exists(there) else word

    return [
        Cells(row.number, {name: _value(name, value, placed) for name, value in row.values.items()}) for row in rows
    ]


def _value(name: str, value: Any, placed: Placed) -> Any:
    """A value with its files named from here. The last part of its name says what it is, in whichever table it stands;
    but all that stands in `options` may name data, and nothing that stands in a `prompt` is a file."""
    *parents, last = plain_name(name).partition(":")[0].split(".")
    if isinstance(value, list):
        return [_value(name, one, placed) for one in value]
    if last == "lora" and isinstance(value, Mapping):
        return {_lora(path, placed): weight for path, weight in value.items()}
    if isinstance(value, Mapping):
        inside = "options." if last == "options" else "prompt." if last == "prompt" else ""
        return {key: _value(inside + key, one, placed) for key, one in value.items()}
    reader = _data if parents == ["options"] else None if parents == ["prompt"] else _READERS.get(last)
    return value if reader is None or not isinstance(value, str) else _whole(value, reader, placed)


def _whole(value: str, reader: Callable[[str, Placed], str], placed: Placed) -> str:
    """A value that is a file from end to end, else what is made of its parts."""
    found = placed(value)
    return reader(value, placed) if found == value else found


def _file(word: str, placed: Placed) -> str:
    return placed(word)


def _lora(word: str, placed: Placed) -> str:
    path, _ = weighted(word)
    return placed(path) + word.removeprefix(path)


def _control(word: str, placed: Placed) -> str:
    try:
        return with_files(word, placed)
    except HvisError:
        return word  # whoever reads the row says what is wrong with it


def _data(word: str, placed: Placed) -> str:
    """A folder of data, alone or after the word for its kind: `folder:photos`."""
    kind, colon, path = word.rpartition(":")
    return kind + colon + placed(path)


def _option(word: str, placed: Placed) -> str:
    name, equals, value = word.partition("=")
    return name + equals + _whole(value, _data, placed)


def _each(reader: Callable[[str, Placed], str]) -> Callable[[str, Placed], str]:
    """Of several values between semicolons each."""
    return lambda words, placed: ";".join(_whole(word, reader, placed) for word in words.split(";"))


_READERS: Mapping[str, Callable[[str, Placed], str]] = {
    "path": _file, "image": _file, "mask": _file, "encoder": _file, "image_encoder": _file, "model": _file,
    "refiner": _file, "styles": _file, "wildcards": _file,
    "embedding": _each(_file), "lora": _each(_lora), "control": _each(_control), "set": _each(_option),
}  # fmt: skip
"""By the last part of a name, what reads a value that says files."""
