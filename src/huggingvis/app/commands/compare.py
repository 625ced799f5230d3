"""Compare the samplers of a model: quality against network calls, as numbers, as a plot and as a contact sheet.

hvis compare samplers --model tiny --nfe 5,10,20,50
hvis compare samplers --model runs/ddpm --samplers ddim,dpm++2m,unipc -o out/ddpm
hvis compare samplers --model runs/ddpm --samplers ddim,euler-a,pc --against mnist --count 500
hvis compare samplers --samplers all --against world:4000 --count 200 --minutes 90

A comparison that was stopped goes on with the same command: what is done lies in STEM-cells until all of it is.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingvis.app.arguments import add_record, one_of, record_of
from huggingvis.app.locating import MODEL, add_places, located
from huggingvis.app.preferences import preferences
from huggingvis.app.screen import Screen
from huggingvis.core.files import check_file, write_atomically
from huggingvis.core.machine import cores, machine, versions

ROOM = 1 << 20
"""Bytes asked for beside the sheet's, for the plot and the record."""


def arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    from huggingvis.recipes.comparing import Comparison

    parser.set_defaults(said=tuple(words))
    parser.add_argument("what", type=one_of("thing to compare", ("samplers",)), help="samplers")
    parser.add_argument("--model", metavar="NAME", help=MODEL)
    add_places(parser)
    parser.add_argument("--device", metavar="NAME", help="auto, cpu, cuda, mps (default auto)")
    parser.add_argument("-o", "--output", metavar="STEM", type=Path, default=Path("compare"),
                        help="STEM.json, STEM.png and STEM-sheet.png are written (default compare)")  # fmt: skip
    add_record(parser, Comparison)


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    from huggingvis import api
    from huggingvis.export.image import save
    from huggingvis.recipes.compared_cells import Kept
    from huggingvis.recipes.comparing import CELL, Comparison, told
    from huggingvis.samplers.names import sampler_names

    usual, how = preferences(), record_of(Comparison, args)
    stem, most = args.output.name, max(len(how.samplers), len(sampler_names()))
    plotted, sheet, written = (args.output.with_name(stem + ending) for ending in (".png", "-sheet.png", ".json"))
    for path in (plotted, sheet, written):
        check_file(path, room=ROOM + 3 * CELL**2 * len(how.nfe) * (most + 2))
    model = located(args.model or usual.model, args, usual, screen)
    keep = args.output.with_name(f"{stem}-cells")
    kept = Kept(keep)
    system = api.load(model, device=args.device or usual.device)
    with screen.progress("comparing", len(how.plan(system).cells)) as tick:
        result = api.compare(system, how, progress=tick, say=screen.note, keep=keep)
    record = {
        "command": shlex.join(["hvis", "compare", *args.said]),
        **result.record,
        "seconds": round(sum(row["seconds"] for row in result.record["rows"]), 1),
        "machine": machine(cores()),
        "versions": versions(()),
    }
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(written, lambda file: file.write(text.encode()))
    save(result.plot, plotted)
    save(result.sheet, sheet)
    kept.remove()  # all of it is in the record now
    for line in [*told(result), str(plotted), str(sheet), str(written)]:
        screen.say(line)
    return {**record, "plot": str(plotted), "sheet": str(sheet)}
