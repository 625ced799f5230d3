"""Rows that are measured once: a number that takes minutes is written at once, and kept until its model is another.

Each row says what it is `of`: the weights or the record that it tells about, so that a run that was trained further, or
another run in its folder, is measured again.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from common import HERE, command, write_json

from huggingvis.core.machine import cores, machine, versions

CURVES = HERE / "curves"
SEED = 0
"""Of every draw that rows are measured by."""
Record = dict[str, Any]


def of_file(path: Path) -> str:
    """What a file is told from others by: its name and 12 hex digits of its content."""
    return f"{path.name} {blake2b(path.read_bytes(), digest_size=6).hexdigest()}"


@dataclass
class MeasuredRows:
    """`curves/NAME.json`: what the script `path` measured so far, by name; `asked`: what all of it must agree in."""

    path: str
    name: str
    asked: Mapping[str, Any]
    rows: Record

    @classmethod
    def open(cls, path: str, name: str, asked: Mapping[str, Any]) -> MeasuredRows:
        """The rows that are there, if they ask for the same, or none."""
        file = CURVES / f"{name}.json"
        told = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        return cls(path, name, asked, told["rows"] if told.get("asked") == asked else {})

    def of(self, name: str) -> str | None:
        """What the row called `name` was measured of; none: it is not there yet."""
        found: str | None = self.rows.get(name, {}).get("of")
        return found

    def once(self, name: str, of: str, make: Callable[[], Record]) -> Record:
        """The row called `name` of `of`, measured and written where it is not there yet or was of something else."""
        if self.of(name) != of:
            began = time.perf_counter()
            self.rows[name] = make() | {"of": of, "seconds": round(time.perf_counter() - began, 1)}
            self.write()
            print(f"{name}: {_words(self.rows[name])}", flush=True)
        kept: Record = self.rows[name]
        return kept

    def write(self) -> None:
        seconds = round(sum(row["seconds"] for row in self.rows.values()), 1)
        about = {"command": command(self.path, sys.argv[1:]), "seed": SEED, "seconds": seconds, "asked": self.asked}
        told = about | {"machine": machine(cores()), "versions": versions(()), "rows": self.rows}
        write_json(CURVES / f"{self.name}.json", told)


def _words(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {v['mean']:.4f} ± {v['error']:.2g}" for k, v in row.items() if isinstance(v, dict))
