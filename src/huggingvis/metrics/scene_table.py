"""Scene accuracies side by side: model, floor and ceiling in one table, for people and for machines.

Book: chapter 9, "Judges".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from huggingvis.metrics.bootstrap import Interval
from huggingvis.metrics.scene_accuracy import COLUMNS, OVERALL, SceneAccuracy

Results = Mapping[str, SceneAccuracy]
"""By label, in the order of printing, for example `floor`, `model`, `ceiling`."""

LEGEND = (
    "floor: the same pictures judged by other prompts, which is chance; ceiling: true pictures passed through the "
    "model's autoencoder,\nwhich is the most it could reach; [low, high]: 95 % confidence; n: prompts of a row."
)
"""What the words around a table mean."""

_ROWS = (*(column.name for column in COLUMNS), OVERALL)


def render_table(results: Results) -> str:
    """One row per column of the accuracy, one column per label and language, then the paired differences.

    The lines are aligned, so the table reads as plain text and renders as Markdown. A cell is `value [low, high]`;
    n is the number of layouts, a range where the results differ in it.
    """
    shown = list(_series(results))
    lines = [["", "n", *(title for title, _ in shown)]]
    for row in _ROWS:
        cells = [intervals.get(row) for _, intervals in shown]
        if any(cells):
            lines.append([row, _count(cells), *("–" if cell is None else str(cell) for cell in cells)])
    return _aligned(lines)


def table_record(results: Results) -> dict[str, Any]:
    """The same numbers as JSON values: label -> accuracy and difference -> language -> column -> interval."""
    return {
        label: {"accuracy": _plain(result.accuracy), "difference": _plain(result.difference)}
        for label, result in results.items()
    }


def _series(results: Results) -> list[tuple[str, Mapping[str, Interval]]]:
    """(title, column -> interval) of every table column, in order."""
    series: list[tuple[str, Mapping[str, Interval]]] = []
    for label, result in results.items():
        series += [(f"{label} {language}", columns) for language, columns in result.accuracy.items()]
        first = next(iter(result.accuracy))
        series += [(f"{label} {first} − {other}", columns) for other, columns in result.difference.items()]
    return series


def _plain(intervals: Mapping[str, Mapping[str, Interval]]) -> dict[str, dict[str, dict[str, float]]]:
    return {
        language: {name: asdict(interval) for name, interval in columns.items()}
        for language, columns in intervals.items()
    }


def _count(cells: Sequence[Interval | None]) -> str:
    counts = sorted({cell.n for cell in cells if cell is not None})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]}–{counts[-1]}"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table with its cells padded: the first column to the left, numbers to the right."""
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    rows = [
        "| " + " | ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))) + " |"
        for line in lines
    ]
    rule = "|" + "|".join(":" + "-" * (w + 1) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([rows[0], rule, *rows[1:]])
