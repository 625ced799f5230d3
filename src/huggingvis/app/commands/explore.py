"""Look into a model's latents: reconstruct, interpolate, traverse, mix and more, each as one labelled sheet.

hvis explore reconstruct photo.png digit.png --model runs/vae
hvis explore interpolate --model runs/vae --path linear -o way.png
hvis explore traverse --help                                 the numbers of one exploration
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingvis.app.arguments import add_record, words_of
from huggingvis.app.locating import MODEL, add_places, located
from huggingvis.app.preferences import preferences
from huggingvis.app.screen import Screen
from huggingvis.core import config as records
from huggingvis.core.errors import UsageError
from huggingvis.core.files import check_file, check_folder
from huggingvis.core.flags import parse

OUT = Path("out")


def arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    from huggingvis.edits.exploring import exploration, explorations

    parser.add_argument("what", nargs="?", help="what to look at; `hvis explore WHAT --help` shows its numbers")
    parser.add_argument("pictures", nargs="*", type=Path, help="pictures it is asked about")
    parser.add_argument("--model", metavar="NAME", help=MODEL)
    add_places(parser)
    parser.add_argument("--device", metavar="NAME", help="auto, cpu, cuda, mps (default auto)")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="the sheet (default WHAT.png, numbered)")
    if words and not words[0].startswith("-"):
        found = exploration(words[0])
        parser.prog, parser.description = f"{parser.prog} {words[0]}", (found.__doc__ or "").partition("\n")[0]
        add_record(parser, found)
        return
    lines = {name: (kind.__doc__ or "").partition("\n")[0] for name, kind in explorations().items()}
    rows = "\n".join(f"  {name:<14}  {line}" for name, line in lines.items())
    parser.epilog = f"What there is, to be named before any flag:\n{rows}"


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    if args.what is None:
        from huggingvis.edits.exploring import explorations

        raise UsageError(
            f"Say what to look at, as in `hvis explore reconstruct picture.png`; there are {', '.join(explorations())}."
        )
    usual = preferences()
    if args.output is not None:
        check_file(args.output)
    else:
        check_folder(OUT)
    from huggingvis import api
    from huggingvis.edits.exploring import exploration
    from huggingvis.export.image import save, save_numbered

    kind = exploration(args.what)
    numbers = records.to_dict(parse(kind, words_of(kind, args)))
    sheet, found = api.explore(
        args.what,
        located(args.model or usual.model, args, usual, screen),
        args.pictures,
        numbers=numbers,
        device=args.device or usual.device,
    )
    output = args.output
    path = save(sheet, output) if output is not None else save_numbered(sheet, OUT, args.what)
    kept: dict[str, str] = {}
    if found.tensors:
        from huggingvis.checkpoints.io import save as keep

        beside = path.with_suffix(".safetensors")
        keep(beside, dict(found.tensors))
        kept["tensors"] = str(beside)
    screen.say(found.text)
    for note in found.notes:
        screen.note(note)
    screen.say(str(path))
    return {"what": args.what, "sheet": str(path), **kept, **found.record, "notes": list(found.notes)}
