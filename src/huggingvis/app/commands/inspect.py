"""Look into a file or folder: what it is, for which base, how it was made. Nothing in it is executed.

hvis inspect model.safetensors
hvis inspect lora.safetensors --for sdxl
hvis inspect out/00001-a-fox.png
hvis inspect runs/mine
hvis inspect owner/name
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import Any

from huggingvis.app.locating import add_places, places
from huggingvis.app.picture_lines import lines_of
from huggingvis.app.preferences import preferences
from huggingvis.app.screen import Screen, size_of
from huggingvis.checkpoints.local_folders import KINDS, lookup

_DONE = ("path", "kind", "title", "summary", "base", "metadata", "sha256", "spelling", "methods", "embeddings",
         "prediction", "assumed", "tensors", "numbers", "dtypes", "bytes", "format", "fits", "hashes", "parts",
         "family", "scheduler", "pipeline", "diffusers", "channels", "triggers", "tags",
         "training", "weights")  # fmt: skip
"""What has its own line, stands in the summary, or is for `--json` alone."""


def arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument(
        "file", help="a checkpoint, LoRA, embedding ... of any kind, a picture, a folder, a packaged model, or "
                     "owner/name at a hub",
    )  # fmt: skip
    parser.add_argument(
        "--for", dest="base", metavar="BASE",
        help="say whether it can be used with BASE, and what would not apply: a model, or sd1, sd2, sdxl or refiner",
    )  # fmt: skip
    add_places(parser)
    parser.add_argument("--no-hash", action="store_true", help="do not read the whole of a large file for its hash")


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    from huggingvis import api

    facts = api.inspect(_located(args), base=args.base, hashes=not args.no_hash)
    if facts["kind"] == "picture":
        for name, text in lines_of(facts):
            screen.say(f"{name:<12}  {_plain(text)}")
        return facts
    if "summary" not in facts:
        _rows(facts, screen)
        return facts
    screen.say(_plain(facts["summary"]))
    if "fits" in facts:
        screen.say(f"{'' if facts['fits']['fits'] is not False else 'It does not fit. '}{_plain(facts['fits']['why'])}")
    for name, text in _lines(facts):
        screen.say(f"{name:<12}  {text}")
    return facts


def _located(args: argparse.Namespace) -> str:
    """What was named, or where other programs here keep it, of whatever kind."""
    roots = () if os.path.lexists(args.file) else places(args, preferences())
    found = (lookup(args.file, kind, roots) for kind in KINDS) if roots else ()
    return next((str(path) for path in found if path is not None), args.file)


def _lines(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What people ask for first, a line each."""
    from huggingvis.checkpoints.looks.nets import PRECISIONS

    lines = []
    if "tensors" in facts:
        types = ", ".join(PRECISIONS.get(name, name) for name in facts["dtypes"])
        lines.append(("size", f"{size_of(facts['bytes'])}, {facts['numbers']:,} numbers in {types or 'no type'}"))
        lines.append(("format", facts["format"]))
    elif facts.get("bytes"):
        lines.append(("size", size_of(facts["bytes"])))
    if facts.get("family"):
        lines.append(("family", facts["family"]))
    for name, part in facts.get("parts", {}).items() if facts["kind"] == "pipeline" else ():
        told = "; ".join(f"{form}: {size_of(row['bytes'])}" for form, row in part["weights"].items())
        lines.append((name, f"{part['class']}{'' if part['here'] else ', not here'}{f' ({told})' if told else ''}"))
    for form, row in facts.get("weights", {}).items():
        lines.append(("weights", f"{form}: {size_of(row['bytes'])}"))
    if facts.get("triggers"):
        lines.append(("trigger", ", ".join(facts["triggers"])))
    if facts.get("tags"):
        lines.append(("tags", ", ".join(f"{tag} ({count})" for tag, count in facts["tags"].items())))
    for group, rows in facts.get("training", {}).items():
        lines.append((group, "; ".join(f"{name} {value}" for name, value in rows.items())))
    lines += [(name, value) for name, value in facts.items() if name not in _DONE and type(value) in (str, int, float)]
    if "hashes" in facts:
        known = facts["hashes"]
        addnet = f", addnet {known['addnet'][:12]}" if facts["kind"] == "lora" and "addnet" in known else ""
        lines.append(("hash", f"{known['a1111']} in A1111; sha256 {known['sha256']}{addnet}"))
    return [(name, _plain(text)) for name, text in lines]


def _plain(text: object) -> str:
    from huggingvis.checkpoints.training_notes import plain

    return plain(text, 1000)


def _rows(facts: Mapping[str, Any], screen: Screen) -> None:
    """Pictures, model folders and runs: all that is told."""
    for key, value in facts.items():
        if isinstance(value, dict):
            _table(key, value, screen)
        elif value is not None:
            screen.say(f"{key:<12}  {size_of(value) if key == 'bytes' else _short(value)}")


def _table(name: str, rows: dict[str, Any], screen: Screen) -> None:
    for key, value in rows.items():
        if isinstance(value, dict):
            _table(f"{name}.{key}", value, screen)
        elif value not in (None, "", [], ()):
            screen.say(f"{f'{name}.{key}':<28}  {size_of(value) if key == 'bytes' else _short(value)}")


def _short(value: Any) -> str:
    text = f"{value:,}" if type(value) is int else str(value)
    return text if len(text) <= 400 else f"{text[:397]}..."
