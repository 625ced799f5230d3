"""A page of experiments, from what was recorded: what was asked, what the papers expect, what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from common import HERE
from experiments import Chapters, Experiment
from measured_rows import CURVES
from trainings import Training, taken

Records = Mapping[str, Mapping[str, Any]]


def page(chapters: Chapters, records: Records, planned: Callable[[str], str]) -> str:
    """The page; `planned` tells the command that trains a row."""
    further = sum(minutes for e in chapters.experiments for _, minutes in e.commands)
    head = (
        f"# Experiments of {chapters.title}\n\n"
        f"Made by `python benchmarks/published.py table` from `trained/*.json`. {chapters.figures}\n\n"
        "## Trainings\n\n"
        "In the order in which they are worth their time; minutes are of one core. All of them: "
        f"{sum(row.minutes for row in chapters.rows.values()):.0f} minutes"
        + (f"; measuring by the commands further below: {further:.0f} more" if further else "")
        + ". `published.py record ROW RUN` measures a finished run and keeps it.\n\n"
        "| row | minutes | command | measured by | |\n|---|---|---|---|---|\n"
    )
    rows = "\n".join(_planned(name, row, records.get(name), planned(name)) for name, row in chapters.rows.items())
    parts = [_told(experiment, records) for experiment in chapters.experiments]
    left = "\n".join(f"- {text}" for text in chapters.left_out)
    return f"{head}{rows}\n\n" + "\n\n".join((*parts, f"## Left out\n\n{left}")) + "\n"


def _planned(name: str, row: Training, told: Mapping[str, Any] | None, command: str) -> str:
    said = [f"hvis evaluate runs/{name}{_split(words)} {words}".rstrip() for words in row.evaluate]
    words = "; ".join((*(f"`{one}`" for one in said), *(["its own last validation"] if row.held_out else [])))
    done = f"{told['steps']:,} steps, {told['seconds'] / 60:.1f} min" if told else "not on record yet"
    return f"| {name} | {row.minutes:g} | `{command}` | {words} | {done} |"


def _split(words: str) -> str:
    return " --split validation" if "split" in taken(words) else ""


def _told(experiment: Experiment, records: Records) -> str:
    e = experiment
    lines = [
        f"## {e.about}\n",
        f"- Asked: {e.asked}.",
        f"- Taken: {e.taken}.",
        f"- Expected: {e.expected}.",
    ]
    lines += [f"- About {minutes:g} min: `{command}`" for command, minutes in e.commands]
    if e.order:
        said = ", then ".join(f"`{name}`" for name in e.order)
        by = f" by `{e.figure}`" if e.figure else ""
        lines.append(f"- Verdict{by}, best first expected: {said}. **{verdict(e, records)}**\n")
        rows = dict.fromkeys(e.placed(item)[0] for item in e.order)
        lines += ["| run | figures |", "|---|---|", *(_figures(row, records.get(row)) for row in rows)]
    if e.curve:
        lines += ["", *_curve(CURVES / f"{e.curve}.json")]
    return "\n".join(lines)


def _curve(path: Path) -> list[str]:
    """What a file of `curves/` tells, as a table, and its picture."""
    if not path.exists():
        return ["**Not measured yet.**"]
    told = json.loads(path.read_text(encoding="utf-8"))
    lines = _table([_flat(row) for row in _rows(told)])
    drawing = path.with_suffix(".png")
    if drawing.exists():
        lines += ["", f"![{path.stem}]({drawing.relative_to(HERE).as_posix()})"]
    return lines


def _rows(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of `measured_rows.py`, each with its name, or the points of `sweep.py`."""
    if "rows" in told:
        return [{"": name} | row for name, row in told["rows"].items()]
    return list(told["points"])


def _flat(row: Mapping[str, Any]) -> dict[str, str]:
    """What is to be read of a row: words and numbers, those with an error as one."""
    out = {}
    for key, value in row.items():
        if isinstance(value, Mapping) and "mean" in value:
            out[key] = _with_error({"value": value["mean"], "error": value["error"]})
        elif isinstance(value, float) or key in ("", "sampler"):
            out[key] = f"{value:.4g}" if isinstance(value, float) else value
    return {key: text for key, text in out.items() if key != "seconds"}


def _table(rows: list[dict[str, str]]) -> list[str]:
    """Rows as Markdown; a column for everything that one of them tells."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    head = "| " + " | ".join(key.replace("_", " ") for key in columns) + " |"
    return [
        head,
        "|---" * len(columns) + "|",
        *("| " + " | ".join(row.get(c, "") for c in columns) + " |" for row in rows),
    ]


def verdict(experiment: Experiment, records: Records) -> str:
    """Whether the figures come in the expected order: of two neighbours the later is worse, by how many errors."""
    placed = [experiment.placed(item) for item in experiment.order]
    lacking = dict.fromkeys(row for row, _ in placed if row not in records)
    if lacking:
        return f"open: {', '.join(lacking)} not on record yet"
    untold = [f"{row}:{figure}" for row, figure in placed if figure not in records[row]["published"]["result"]]
    if untold:
        return f"open: {', '.join(untold)} not measured yet"
    found = [records[row]["published"]["result"][figure] for row, figure in placed]
    said = []
    for (one, better), (other, worse) in pairwise(zip(experiment.order, found, strict=True)):
        gap = (better["value"] - worse["value"]) * (1 if experiment.more else -1)
        error = ((better["error"] or 0) ** 2 + (worse["error"] or 0) ** 2) ** 0.5
        if gap <= 0:
            said.append(f"{other} is ahead of {one}")
        elif gap < 2 * error:
            said.append(f"{one} is ahead of {other} by {gap / error:.1f} standard errors only")
    return "not as expected: " + "; ".join(said) if said else "as expected"


def _figures(name: str, told: Mapping[str, Any] | None) -> str:
    if told is None:
        return f"| {name} | not on record yet |"
    return f"| {name} | " + ", ".join(f"{k} {_with_error(f)}" for k, f in told["published"]["result"].items()) + " |"


def _with_error(found: Mapping[str, Any]) -> str:
    return f"{found['value']:.4g}" + (f" ± {found['error']:.2g}" if found["error"] else "")
