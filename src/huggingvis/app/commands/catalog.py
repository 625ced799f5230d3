"""What is in the library: its systems with the proof of each claim, or the entries of one axis.

hvis catalog --chapter 4       systems of one chapter of the book
hvis catalog samplers          every sampler, with its paper
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from huggingvis.app.screen import Screen
from huggingvis.core.catalog import AXES, MARKS, entries
from huggingvis.core.errors import UsageError


def arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument("axis", nargs="?", help=f"one of {', '.join(AXES)}")
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
    every = entries(axis)
    found = [entry for entry in every if chapter is None or (entry.chapter or "").lower() == chapter.lower()]
    if not found:
        raise _no_chapter(chapter, [entry.chapter for entry in every if entry.chapter])
    for entry in found:
        paper = f"  [arXiv {', '.join(entry.arxiv)}]" if entry.arxiv else ""
        screen.say(f"{entry.name:<24}  {entry.doc}{paper}")
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
        }
        for entry in found
    ]


def _no_chapter(chapter: str | None, known: list[str]) -> UsageError:
    there = ", ".join(sorted(set(known))) or "none"
    return UsageError(f"There is nothing of chapter {chapter!r} here; chapters that have something: {there}.")
