"""What is in the library: its systems with the proof of each claim, or the entries of one axis.

hvis catalog --chapter 4       systems of one chapter of the book
hvis catalog samplers          every sampler, with its paper and its names elsewhere
hvis catalog schedules         the same of the grids of times that they walk
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from huggingvis.app.screen import Screen
from huggingvis.core.catalog import AXES, MARKS, Entry, entries
from huggingvis.core.errors import UsageError

NAMED = ("samplers", "schedules")
"""What has names of its own elsewhere."""


def arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument("axis", nargs="?", help=f"schedules, or one of {', '.join(AXES)}")
    parser.add_argument("--chapter", metavar="N", help="only this chapter of the book")


def run(args: argparse.Namespace, screen: Screen) -> list[dict[str, Any]]:
    return _axis(args.axis, args.chapter, screen) if args.axis else _systems(args.chapter, screen)


def _systems(chapter: str | None, screen: Screen) -> list[dict[str, Any]]:
    from huggingvis import api

    found = api.catalog(chapter)
    if not found:
        raise _no_chapter(chapter, [record["chapter"] for record in api.catalog()])
    for record in found:
        proven = ", ".join(mark for mark in MARKS if record[mark]) or "nothing proven yet"
        paper = f"arXiv {record['paper']}" if record["paper"] else ""
        screen.say(f"{record['chapter']:>4}  {record['name']:<24}  {paper:<16}  {proven}")
    return found


def _axis(axis: str, chapter: str | None, screen: Screen) -> list[dict[str, Any]]:
    every = _entries(axis)
    found = [entry for entry in every if chapter is None or (entry.chapter or "").lower() == chapter.lower()]
    if not found:
        raise _no_chapter(chapter, [entry.chapter for entry in every if entry.chapter])
    named = _named(axis)
    for entry in found:
        paper = f"  [arXiv {', '.join(entry.arxiv)}]" if entry.arxiv else ""
        screen.say(f"{entry.name:<24}  {entry.doc}{paper}")
        for row in named.get(entry.name, ()):
            screen.say(f"    {row['name']:<22}  {_elsewhere(row)}")
    return [
        {
            "name": entry.name,
            "kind": entry.kind,
            "aliases": list(entry.aliases),
            "module": entry.module,
            "line": entry.line,
            "doc": entry.doc,
            "arxiv": list(entry.arxiv),
            "chapter": entry.chapter,
            **({"named": named.get(entry.name, [])} if axis in NAMED else {}),
        }
        for entry in found
    ]


def _entries(axis: str) -> list[Entry]:
    """Those of an axis; grids of times are schedules, though they lie among the samplers."""
    if axis not in NAMED:
        return list(entries(axis))
    wanted = axis == "schedules"
    return [entry for entry in entries("samplers") if (".samplers.grids." in entry.module) is wanted]


def _named(axis: str) -> dict[str, list[dict[str, Any]]]:
    """The names of samplers or schedules, by the class that each stands for."""
    found: dict[str, list[dict[str, Any]]] = {}
    if axis in NAMED:
        from huggingvis.samplers import _facts

        for row in _facts.sampler_records() if axis == "samplers" else _facts.schedule_records():
            found.setdefault(row["class"], []).append(row)
    return found


def _elsewhere(row: dict[str, Any]) -> str:
    """What a name is called elsewhere, and what is known of it."""
    worlds = (("A1111", "a1111"), ("ComfyUI", "comfyui"), ("diffusers", "diffusers"))
    told = [f"{world} {', '.join(row[key])}" for world, key in worlds if row[key]]
    if "order" in row:
        told.append(
            f"order {row['order']}, {row['calls']} calls a step" + (", draws noise" if row["stochastic"] else "")
        )
    elif row["tables_only"]:
        told.append("tables only")
    return " | ".join([*told, row["proof"]])


def _no_chapter(chapter: str | None, known: list[str]) -> UsageError:
    there = ", ".join(sorted(set(known))) or "none"
    return UsageError(f"There is nothing of chapter {chapter!r} here; chapters that have something: {there}.")
