"""What the files of `curves/` tell, for the page of experiments: a table, a picture, and figures by row to judge by.

Three scripts write them: `measured_rows.py` rows by name, `sweep.py` points, which are named by sampler and number
("ddim 10"), and `hvis compare samplers` lines of samplers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from common import HERE
from measured_rows import CURVES

Found = Mapping[str, Any]
"""`value`, and `error` where it has one."""
Results = Mapping[str, Found]
"""Figures of one row by their names."""


@dataclass(frozen=True)
class Table:
    """The figures of a file by row, and the lines of Markdown that show them."""

    results: Mapping[str, Results] = field(default_factory=dict)
    lines: tuple[str, ...] = ()

    @classmethod
    def of(cls, curve: str) -> Table:
        """What `curves/CURVE.json` tells; nothing, where there is no such file."""
        path = CURVES / f"{curve}.json"
        if not path.is_file():
            return cls(lines=("**Not measured yet.**",))
        results = dict(_rows(json.loads(path.read_text(encoding="utf-8"))))
        drawing = path.with_suffix(".png")
        drawn = ("", f"![{curve}]({drawing.relative_to(HERE).as_posix()})") if drawing.exists() else ()
        return cls(results, (*_markdown(results), *drawn))


def written(found: Found) -> str:
    """A figure and its error."""
    return f"{found['value']:.4g}" + (f" ± {found['error']:.2g}" if found.get("error") else "")


def _rows(told: Mapping[str, Any]) -> Iterator[tuple[str, Results]]:
    rows = told.get("rows", {})
    if isinstance(rows, list):
        yield from _samplers(rows).items()
    else:
        yield from ((name, _figures(row)) for name, row in rows.items())
    for point in told.get("points", ()):
        knob = told["knob"]
        yield f"{point['sampler']} {point[knob]:g}", _figures({k: v for k, v in point.items() if k != knob})


def _samplers(cells: list[Mapping[str, Any]]) -> Mapping[str, Results]:
    """What `hvis compare samplers` measured of each sampler, by numbers of calls."""

    def of(name: str) -> Results:
        found: dict[str, Found] = {}
        for key in ("psnr", "frechet"):
            for cell in cells:
                if cell["sampler"] == name and cell.get(key) is not None:
                    found[f"{key} {cell['nfe']}"] = {"value": cell[key], "error": None}
        return found

    return {name: of(name) for name in dict.fromkeys(cell["sampler"] for cell in cells)}


def _figures(row: Mapping[str, Any]) -> dict[str, Found]:
    """The numbers of a row, but for how long they took."""
    out: dict[str, Found] = {}
    for key, value in row.items():
        if isinstance(value, Mapping) and "mean" in value:
            out[key] = {"value": value["mean"], "error": value["error"]}
        elif isinstance(value, float) and key != "seconds":
            out[key] = {"value": value, "error": None}
    return out


def _markdown(results: Mapping[str, Results]) -> list[str]:
    """A line for every row, a column for everything that one of them tells."""
    columns = list(dict.fromkeys(key for row in sorted(results.values(), key=len, reverse=True) for key in row))
    head = "| | " + " | ".join(key.replace("_", " ") for key in columns) + " |"
    lines = (
        f"| {name} | " + " | ".join(written(row[key]) if key in row else "" for key in columns) + " |"
        for name, row in results.items()
    )
    return [head, "|---" * (len(columns) + 1) + "|", *lines]
