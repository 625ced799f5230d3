"""A page of experiments, from what was recorded: what was asked, what the papers expect, what came of it."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from itertools import pairwise
from typing import Any

from experiment_curves import Found, Results, Table, written
from experiments import Chapters, Experiment
from trainings import Training, taken

Records = Mapping[str, Mapping[str, Any]]


def page(chapters: Chapters, records: Records, planned: Callable[[str], str]) -> str:
    """The page: verdicts, then every experiment, then the trainings; `planned` tells the command that trains a row."""
    tables = {e.about: Table.of(e.curve) for e in chapters.experiments}
    recorded = {name: told["published"]["result"] for name, told in records.items()}
    judged = {e.about: verdict(e, recorded | tables[e.about].results) for e in chapters.experiments if e.order}
    parts = [
        f"# Experiments of {chapters.title}",
        f"Made by `python benchmarks/published.py table` from `trained/*.json`. {chapters.figures}",
        *_summary(judged),
        *(_told(e, recorded, tables[e.about], judged.get(e.about), chapters.rows) for e in chapters.experiments),
        _trainings(chapters, records, tables.values(), planned),
        "## Left out\n\n" + "\n".join(f"- {text}" for text in chapters.left_out),
    ]
    return "\n\n".join(parts) + "\n"


def _summary(judged: Mapping[str, str]) -> list[str]:
    if not judged:
        return []
    rows = "\n".join(f"| {about} | {said} |" for about, said in judged.items())
    return [f"Whether the methods come in the order of the papers:\n\n| | |\n|---|---|\n{rows}"]


def _trainings(chapters: Chapters, records: Records, tables: Iterable[Table], planned: Callable[[str], str]) -> str:
    """Every row with the command that trains it, those that measure it, and what came of it."""
    further = sum(minutes for e in chapters.experiments for _, minutes in e.commands)
    elsewhere = {name for table in tables for name in table.results}
    head = (
        "## Trainings\n\n"
        "In the order in which they are worth their time; minutes are of one core. All of them: "
        f"{sum(row.minutes for row in chapters.rows.values()):.0f} minutes"
        + (f"; measuring by the commands further above: {further:.0f} more" if further else "")
        + ". `published.py record ROW RUN` measures a finished run and keeps it.\n\n"
        "| row | minutes | command | measured by | |\n|---|---|---|---|---|\n"
    )
    return head + "\n".join(
        _planned(name, row, _done(name, records, elsewhere), planned(name)) for name, row in chapters.rows.items()
    )


def _done(name: str, records: Records, elsewhere: Container[str]) -> str:
    if told := records.get(name):
        return f"{told['steps']:,} steps, {told['seconds'] / 60:.1f} min"
    return "measured in a table above" if name in elsewhere else "not on record yet"


def _planned(name: str, row: Training, done: str, command: str) -> str:
    said = [f"hvis evaluate runs/{name}{_split(words)} {words}".rstrip() for words in row.evaluate]
    said = said or ([] if row.held_out else [f"hvis evaluate runs/{name}"])
    words = "; ".join((*(f"`{one}`" for one in said), *(["its own last validation"] if row.held_out else [])))
    return f"| {name} | {row.minutes:g} | `{command}` | {words} | {done} |"


def _split(words: str) -> str:
    return " --split validation" if "split" in taken(words) else ""


def _told(
    e: Experiment, recorded: Mapping[str, Results], table: Table, judged: str | None, rows: Mapping[str, Training]
) -> str:
    lines = [
        f"## {e.about}\n",
        f"- Asked: {e.asked}.",
        f"- Taken: {e.taken}.",
        f"- Expected: {e.expected}.",
        *([f"- Found: {e.found}."] if e.found else []),
    ]
    lines += [f"- About {minutes:g} min: `{command}`" for command, minutes in e.commands]
    if judged:
        said = (" = " if e.alike else ", then ").join(f"`{name}`" for name in e.order)
        by = f" by `{e.figure}`" if e.figure else ""
        lines.append(f"- Verdict{by}, {'' if e.alike else 'best first '}expected: {said}. **{judged}**")
    asked = dict.fromkeys(e.placed(item)[0] for item in e.order)
    trained = [row for row in asked if row in rows and row not in table.results]
    if trained:
        lines += ["", "| run | figures |", "|---|---|", *(_figures(row, recorded.get(row)) for row in trained)]
    if e.curve and e.commands:
        lines += ["", *table.lines]
    return "\n".join(lines)


def verdict(experiment: Experiment, results: Mapping[str, Results]) -> str:
    """Whether figures are as expected: of two neighbours the later is worse, or alike, and by how many errors."""
    placed = [experiment.placed(item) for item in experiment.order]
    lacking = dict.fromkeys(row for row, _ in placed if row not in results)
    if lacking:
        return f"open: {', '.join(lacking)} not on record yet"
    untold = [f"{row}:{figure}" for row, figure in placed if figure not in results[row]]
    if untold:
        return f"open: {', '.join(untold)} not measured yet"
    found = [results[row][figure] for row, figure in placed]
    pairs = pairwise(zip(experiment.order, found, strict=True))
    said = [_apart(*pair) if experiment.alike else _behind(*pair, more=experiment.more) for pair in pairs]
    return "not as expected: " + "; ".join(filter(None, said)) if any(said) else "as expected"


def _apart(one: tuple[str, Found], other: tuple[str, Found]) -> str:
    """What is wrong with two figures that should agree; "" where nothing is."""
    apart, error = abs(one[1]["value"] - other[1]["value"]), _error(one[1], other[1])
    if apart <= 3 * error:
        return ""
    return (
        f"{one[0]} and {other[0]} are {apart / error:.1f} standard errors apart"
        if error
        else f"{one[0]} is not {other[0]}"
    )


def _behind(one: tuple[str, Found], other: tuple[str, Found], *, more: bool) -> str:
    """What is wrong with two figures of which the first should be ahead; "" where nothing is."""
    gap, error = (one[1]["value"] - other[1]["value"]) * (1 if more else -1), _error(one[1], other[1])
    if gap <= 0:
        return f"{other[0]} is ahead of {one[0]}"
    return f"{one[0]} is ahead of {other[0]} by {gap / error:.1f} standard errors only" if gap < 2 * error else ""


def _error(one: Found, other: Found) -> float:
    return float(((one["error"] or 0) ** 2 + (other["error"] or 0) ** 2) ** 0.5)


def _figures(name: str, found: Results | None) -> str:
    if found is None:
        return f"| {name} | not on record yet |"
    return f"| {name} | " + ", ".join(f"{k} {written(one)}" for k, one in found.items()) + " |"
