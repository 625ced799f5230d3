"""JSON files of settings, in and out: `config.json` and its kin. Needs no torch. Book: chapter 5, "Checkpoints"."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingvis.core.errors import FileProblem, no_file
from huggingvis.core.files import check_readable, explain, write_atomically

Json = Mapping[str, Any]

_LONGEST = 1 << 24
"""Bytes of a file of settings; a longer one is something else."""


def read_json(path: Path) -> dict[str, Any]:
    """The settings in a JSON file. Raises `FileProblem`."""
    try:
        with check_readable(path).open("rb") as file:
            found = json.loads(file.read(_LONGEST))
    except FileNotFoundError:
        raise no_file(path) from None
    except OSError as error:
        raise explain(error, path, "read") from error
    except (ValueError, RecursionError) as error:
        raise FileProblem(f"{path} should be JSON, but does not parse: {error}. Download it again.") from error
    if not isinstance(found, dict):
        raise FileProblem(f"{path} should hold a JSON object with settings, found {type(found).__name__}.")
    return found


def write_json(path: Path, content: Json) -> Path:
    """Writes settings, all or nothing, with the folder they lie in; returns the file. Raises `FileProblem`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain(error, path.parent, "write") from error
    text = (json.dumps(dict(content), indent=2, sort_keys=True) + "\n").encode()
    write_atomically(path, lambda file: file.write(text))
    return path
