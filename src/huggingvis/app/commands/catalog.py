"""What is in the library: its systems with the proof of each claim, the entries of one axis, or the model's words.

hvis catalog --chapter 4       systems of one chapter of the book
hvis catalog samplers          every sampler: its names elsewhere, its measured order and error, its test
hvis catalog schedules         the same of the grids of times that they walk
hvis catalog recipes           what `hvis train` can train
hvis catalog guidance          the entries of another axis, with their papers
hvis catalog words             every word that the packaged model knows, in English and in Chinese
"""

from __future__ import annotations

import argparse
import unicodedata
from collections.abc import Sequence
from typing import Any

from huggingvis.app.screen import Screen
from huggingvis.core.catalog import ARXIV, AXES, MARKS, Entry, entries, recipes
from huggingvis.core.errors import UsageError

WORLDS = ("A1111", "ComfyUI", "diffusers")
"""Where samplers and schedules have names of their own."""


def arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument("axis", nargs="?", help=f"words, schedules, or one of {', '.join(AXES)}")
    parser.add_argument("--chapter", metavar="N", help="only this chapter of the book")


def run(args: argparse.Namespace, screen: Screen) -> list[dict[str, Any]]:
    if not args.axis:
        return _systems(args.chapter, screen)
    named = {"samplers": _samplers, "schedules": _schedules, "recipes": _recipes, "words": _words}.get(args.axis)
    return named(args.chapter, screen) if named else _axis(args.axis, args.chapter, screen)


def _systems(chapter: str | None, screen: Screen) -> list[dict[str, Any]]:
    from huggingvis import api

    found = api.catalog(chapter)
    if not found:
        raise _no_chapter(chapter, [record["chapter"] for record in api.catalog()])
    cells = [
        (record["chapter"], record["name"], paper_of(record["paper"]), ", ".join(m for m in MARKS if record[m]) or "-")
        for record in found
    ]
    _say_table(screen, ("chapter", "name", "paper", "proven"), cells)
    return found


def paper_of(paper: str | None) -> str:
    """A paper as people cite it: by the archive that its number is of, or in the words that there are."""
    if paper is None:
        return ""
    if paper.startswith("10.") and "/" in paper:
        return f"doi {paper}"
    return f"arXiv {paper}" if ARXIV.fullmatch(paper) else paper


def _axis(axis: str, chapter: str | None, screen: Screen) -> list[dict[str, Any]]:
    found = _of_chapter(chapter, [_record(entry) for entry in entries(axis)])
    told = [f"{row['doc']}  [arXiv {', '.join(row['arxiv'])}]" if row["arxiv"] else row["doc"] for row in found]
    _say_table(screen, ("name", "what it is"), [(row["name"], text) for row, text in zip(found, told, strict=True)])
    return found


def _record(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "kind": entry.kind,
        "aliases": list(entry.aliases),
        "module": entry.module,
        "line": entry.line,
        "doc": entry.doc,
        "arxiv": list(entry.arxiv),
        "chapter": entry.chapter,
    }


def _samplers(chapter: str | None, screen: Screen) -> list[dict[str, Any]]:
    from huggingvis.recipes import sampler_facts

    rows = _of_chapter(chapter, sampler_facts.sampler_records())
    head = ("ours", *WORLDS, "order", "slope", f"error@{sampler_facts.NFE}", "calls", "noise", "test")
    _say_table(screen, head, [_cells(row) for row in rows])
    screen.say(
        "\nslope: order as errors on a closed-form mixture tell it; error: distance there to where the ODE ends, with "
        f"{sampler_facts.NFE} network calls. Those that draw noise are tested by the law of their samples."
    )
    return _with_unnamed("samplers", rows, screen)


def _schedules(chapter: str | None, screen: Screen) -> list[dict[str, Any]]:
    from huggingvis.recipes import sampler_facts

    rows = _of_chapter(chapter, sampler_facts.schedule_records())
    cells = [(row["name"], *_elsewhere(row), "tables" if row["tables_only"] else "any", _test(row)) for row in rows]
    _say_table(screen, ("ours", *WORLDS, "process", "test"), cells)
    return _with_unnamed("schedules", rows, screen)


def _recipes(chapter: str | None, screen: Screen) -> list[dict[str, Any]]:
    chapters = {entry.module: entry.chapter for entry in entries("recipes")}
    rows = [
        {"name": one.name, "group": one.chapter, "module": one.module, "doc": one.doc, "chapter": chapters[one.module]}
        for one in recipes().values()
    ]
    found = _of_chapter(chapter, rows)
    cells = [(row["name"], row["group"], row["doc"]) for row in found]
    _say_table(screen, ("hvis train", "group", "what it is"), cells)
    return found


def _words(chapter: str | None, screen: Screen) -> list[dict[str, Any]]:
    from huggingvis.data.sprites import objects_v1
    from huggingvis.data.vocabulary import word_list

    if chapter is not None:
        raise UsageError("Words are of no chapter. Leave --chapter out.")
    rows = word_list(objects_v1())
    shown = [(row, 1 if row["kind"] == "relation" else None) for row in rows]  # of a relation the usual form
    cells = [(row["kind"], "; ".join(row["en"][:most]), "；".join(row["zh"][:most])) for row, most in shown]
    _say_table(screen, ("kind", "English", "Chinese"), cells)
    screen.say(
        "\nColour words are for shapes; other things have colours of their own. Plurals are understood too: --json has "
        "them, and every way to say a relation."
    )
    return rows


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    slope, error = (format(row[key], how) if key in row else "-" for key, how in (("slope", ".2f"), ("error", ".1e")))
    noise = "yes" if row["stochastic"] else "no"
    return row["name"], *_elsewhere(row), str(row["order"]), slope, error, str(row["calls"]), noise, _test(row)


def _elsewhere(row: dict[str, Any]) -> list[str]:
    """The first of its names in each world; JSON has them all."""
    return [row[world.lower()][0] if row[world.lower()] else "" for world in WORLDS]


def _test(row: dict[str, Any]) -> str:
    return str(row["proof"]).partition("::test_")[2]


def _say_table(screen: Screen, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(_width(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows):
        cells = (cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True))
        screen.say("  ".join(cells).rstrip())


def _width(text: str) -> int:
    """Columns of a terminal that a text takes: a Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _with_unnamed(axis: str, rows: list[dict[str, Any]], screen: Screen) -> list[dict[str, Any]]:
    """And, below the table, the classes that no name stands for: parts of others, and what is fitted to a model."""
    from huggingvis.recipes import sampler_facts

    others = [_record(entry) for entry in sampler_facts.unnamed(axis)]
    screen.say(f"\nIn Python also: {', '.join(row['name'] for row in others)}.")
    return [*rows, *({**row, "class": row["name"], "name": None} for row in others)]


def _of_chapter(chapter: str | None, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = [row for row in rows if chapter is None or (row["chapter"] or "").lower() == chapter.lower()]
    if not found:
        raise _no_chapter(chapter, [row["chapter"] for row in rows if row["chapter"]])
    return found


def _no_chapter(chapter: str | None, known: list[str]) -> UsageError:
    there = ", ".join(sorted(set(known))) or "none"
    return UsageError(f"There is nothing of chapter {chapter!r} here; chapters that have something: {there}.")
