"""Fills the table of benchmarks/README.md from benchmarks/results/. Standard library only.

    python benchmarks/table.py

What another kind of machine measured (`--out benchmarks/results/KIND`) stands after the usual machine's.
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
    """Markdown of all results, in the order in which they are explained, by KIND/NAME or NAME."""

    def place(called: str) -> tuple[int, str, int]:
        name = called.rpartition("/")[2]
        return (ORDER.index(name) if name in ORDER else len(ORDER), name, called.count("/"))

    parts = [_section(called, records[called]) for called in sorted(records, key=place)]
    return "\n\n".join(parts) if parts else "No result is committed yet; `make bench` writes them."


def _section(called: str, record: Mapping[str, Any]) -> str:
    machine, (kind, _, name) = record["machine"], called.rpartition("/")
    about = (
        f"### {name}{kind and f', {kind}'}\n\n`{record['command']}`: {record['seconds']:g} s on {machine['cpu']}, "
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
    """Every committed result by its name, after the kind of machine where it is not the usual one."""
    found = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.json"))}
    return {called: json.loads(path.read_text(encoding="utf-8")) for called, path in found.items()}


def main() -> None:
    page = HERE / "README.md"
    write_text(page, filled(page.read_text(encoding="utf-8"), results()))


if __name__ == "__main__":
    main()
