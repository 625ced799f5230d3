"""Make a labelled sheet of one prompt, with other numbers or words along its sides.

hvis grid "a red fox" --x steps=5,10,20 --y cfg=1..7:4
hvis grid "a red fox" --x prompt:fox,cat,dog --y seed=0-3 --z sampler=ddim,dpm++2m
hvis grid "a fox" --model one --x model=one,two --y lora=style:0.5,style:1

One axis is enough. It is NAME=VALUES: the name of a flag below (steps, guidance-scale, lora, model ...), or what other
programs call it (cfg), and the values it takes, between commas. A range of numbers is 1-4 (1, 2, 3, 4), "1-7 (+3)" (1,
4, 7) or 1..7:4 (four numbers from 1 to 7). prompt:fox,cat writes cat in the place of fox. Flags besides hold for all
pictures. Each picture is saved by itself too; a grid that was stopped goes on with the same command.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from typing import Any

from huggingvis.app.arguments import Parser, whole
from huggingvis.app.commands import generate
from huggingvis.app.commands.batch import finished, folder_of, made
from huggingvis.app.preferences import preferences
from huggingvis.app.screen import Screen
from huggingvis.app.serving import FORMATS
from huggingvis.core.axes import MOST_CELLS, Axis
from huggingvis.core.errors import UsageError


def arguments(parser: Parser, words: Sequence[str]) -> None:
    axes = parser.add_argument_group("axes")
    for name, way in (("x", "to the right"), ("y", "down"), ("z", "from one block to the next")):
        axes.add_argument(f"--{name}", metavar="NAME=VALUES", help=f"what changes {way}")
    axes.add_argument(
        "--most-cells", metavar="N", type=whole("--most-cells", 1), default=MOST_CELLS,
        help=f"refuse a grid of more pictures than that (default {MOST_CELLS})",
    )  # fmt: skip
    generate.arguments(parser, words)
    parser.hide("--from", "--grid")


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    if args.picture is not None:
        raise UsageError("A grid is made of a prompt and flags: leave out --from.")
    usual = preferences()
    generate.draw_seeds(args)
    from huggingvis.app.rows import RowReader
    from huggingvis.export.image import save, slugify
    from huggingvis.recipes.grids import Axes, check_cells, sheet_of

    x, y, z = (Axis.parse(words) if words else None for words in (args.x, args.y, args.z))
    axes = Axes(x, y, z, args.most_cells)
    rows = RowReader(args, usual, screen).rows(axes.cells(), "cell")
    check_cells(rows)
    done = made(rows, args, usual, screen, "cell")
    folder = folder_of(args, usual)
    told = hashlib.blake2b("".join(o.address for o in done.outcomes).encode(), digest_size=6).hexdigest()
    words = slugify(args.prompt or "") if not args.no_metadata else ""
    name = "-".join(part for part in ("grid", words, told) if part)
    more: dict[str, Any] = {"axes": axes.to_dict()}
    if not done.stopped and done.paths:
        sheet = sheet_of(axes, done.outcomes)
        more["grid"] = str(save(sheet.bare() if args.no_metadata else sheet, folder / f"{name}{FORMATS[args.format]}"))
        screen.say(f"{more['grid']}  (all of them on one sheet)")
    return finished(done, folder / f"{name}.summary.json", screen, more)
