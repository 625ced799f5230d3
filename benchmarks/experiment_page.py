"""A page of experiments, from what was recorded: what was asked, what the papers expect, what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from experiment_curves import Results, Table, written
from experiments import Chapters, Experiment
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
    parts = [_told(experiment, records, chapters.rows) for experiment in chapters.experiments]
    left = "\n".join(f"- {text}" for text in chapters.left_out)
    return f"{head}{rows}\n\n" + "\n\n".join((*parts, f"## Left out\n\n{left}")) + "\n"


def _planned(name: str, row: Training, told: Mapping[str, Any] | None, command: str) -> str:
    said = [f"hvis evaluate runs/{name}{_split(words)} {words}".rstrip() for words in row.evaluate]
    words = "; ".join((*(f"`{one}`" for one in said), *(["its own last validation"] if row.held_out else [])))
    done = f"{told['steps']:,} steps, {told['seconds'] / 60:.1f} min" if told else "not on record yet"
    return f"| {name} | {row.minutes:g} | `{command}` | {words} | {done} |"


def _split(words: str) -> str:
    return " --split validation" if "split" in taken(words) else ""


def _told(experiment: Experiment, records: Records, rows: Mapping[str, Training]) -> str:
    e = experiment
    lines = [
        f"## {e.about}\n",
        f"- Asked: {e.asked}.",
        f"- Taken: {e.taken}.",
        f"- Expected: {e.expected}.",
        *([f"- Found: {e.found}."] if e.found else []),
    ]
    lines += [f"- About {minutes:g} min: `{command}`" for command, minutes in e.commands]
    table = Table.of(e.curve)
    results = {name: told["published"]["result"] for name, told in records.items()} | table.results
    if e.order:
        said = ", then ".join(f"`{name}`" for name in e.order)
        by = f" by `{e.figure}`" if e.figure else ""
        lines.append(f"- Verdict{by}, best first expected: {said}. **{verdict(e, results)}**")
    asked = dict.fromkeys(e.placed(item)[0] for item in e.order)
    trained = [row for row in asked if row in rows and row not in table.results]
    if trained:
        lines += ["", "| run | figures |", "|---|---|", *(_figures(row, results.get(row)) for row in trained)]
    if e.curve:
        lines += ["", *table.lines]
    return "\n".join(lines)


def verdict(experiment: Experiment, results: Mapping[str, Results]) -> str:
    """Whether the figures come in the expected order: of two neighbours the later is worse, by how many errors."""
    placed = [experiment.placed(item) for item in experiment.order]
    lacking = dict.fromkeys(row for row, _ in placed if row not in results)
    if lacking:
        return f"open: {', '.join(lacking)} not on record yet"
    untold = [f"{row}:{figure}" for row, figure in placed if figure not in results[row]]
    if untold:
        return f"open: {', '.join(untold)} not measured yet"
    found = [results[row][figure] for row, figure in placed]
    said = []
    for (one, better), (other, worse) in pairwise(zip(experiment.order, found, strict=True)):
        gap = (better["value"] - worse["value"]) * (1 if experiment.more else -1)
        error = ((better["error"] or 0) ** 2 + (worse["error"] or 0) ** 2) ** 0.5
        if gap <= 0:
            said.append(f"{other} is ahead of {one}")
        elif gap < 2 * error:
            said.append(f"{one} is ahead of {other} by {gap / error:.1f} standard errors only")
    return "not as expected: " + "; ".join(said) if said else "as expected"


def _figures(name: str, found: Results | None) -> str:
    if found is None:
        return f"| {name} | not on record yet |"
    return f"| {name} | " + ", ".join(f"{k} {written(one)}" for k, one in found.items()) + " |"
