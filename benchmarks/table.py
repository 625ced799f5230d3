"""Fills the table of benchmarks/README.md from benchmarks/results/*.json. Standard library only.

python benchmarks/table.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import HERE, RESULTS, write_text

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
ORDER = ("startup", "loop", "world", "picture", "stable_diffusion", "training_step", "families")
HEAD = ("| what | who | median [least - most] | ours / peer |", "|---|---|---|---|")


def render(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown of all results, in the order in which they are explained."""
    known = [name for name in ORDER if name in records]
    parts = [_section(records[name]) for name in (*known, *sorted(set(records) - set(known)))]
    return "\n\n".join(parts) if parts else "No result is committed yet; `make bench` writes them."


def _section(record: Mapping[str, Any]) -> str:
    machine = record["machine"]
    about = (
        f"### {record['name']}\n\n`{record['command']}`: {record['seconds']:g} s on {machine['cpu']}, "
        f"{machine['cores']} cores, {machine['ram_gib']} GiB, {machine['threads']} threads; "
        f"load before {machine['load']}; "
        + ", ".join(f"{name} {version}" for name, version in record["versions"].items())
        + "."
    )
    notes = "".join(f"\n\n{note}" for note in record.get("notes", ()))
    return about + notes + "\n\n" + "\n".join((*HEAD, *map(_line, record["rows"])))


def _line(row: Mapping[str, Any]) -> str:
    facts = "; ".join(f"{key.replace('_', ' ')} {value}" for key, value in row["facts"].items())
    what = f"{row['what']} ({facts})" if facts else row["what"]
    ratios = "; ".join(f"**{value:.3g}** x {peer}" for peer, value in row["ratios"].items())
    numbers = f"{row['median']:.4g} [{row['min']:.4g} - {row['max']:.4g}] {row['unit']}"
    return f"| {what} | {row['who']} | {numbers} | {ratios} |"


def filled(readme: str, records: Mapping[str, Mapping[str, Any]]) -> str:
    """The page with its table replaced. Raises `ValueError` where the marks are missing."""
    before, found, rest = readme.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise ValueError(f"the page needs a line {BEGIN} and, after it, a line {END}")
    return f"{before}{BEGIN}\n{render(records)}\n{END}{after}"


def results(folder: Path = RESULTS) -> dict[str, Any]:
    """Every committed result by its name."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def main() -> None:
    page = HERE / "README.md"
    write_text(page, filled(page.read_text(encoding="utf-8"), results()))


if __name__ == "__main__":
    main()
