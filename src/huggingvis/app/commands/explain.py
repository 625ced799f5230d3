"""Draw what a method does: `process NAME` shows alpha, sigma, log-SNR and a picture on its way to noise.

hvis explain process cosine
hvis explain process flow --picture photo.png -o flow.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingvis.app.arguments import one_of
from huggingvis.app.screen import Screen
from huggingvis.core.files import check_file, check_folder

OUT = Path("out")


def arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument("what", type=one_of("thing to explain", ("process",)), help="process")
    parser.add_argument(
        "name", help="a process, as `hvis train --process` names it: linear, cosine, flow, vp, ve, edm, ..."
    )
    parser.add_argument("--picture", metavar="FILE", type=Path, help="the picture that is noised (default: a drawing)")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="the drawing (default NAME.png, numbered)")


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    if args.output is not None:
        check_file(args.output)
    else:
        check_folder(OUT)
    from huggingvis.core.picture_files import open_picture
    from huggingvis.export.image import save, save_numbered
    from huggingvis.recipes.explaining import explain_process

    shown = explain_process(args.name, open_picture(args.picture) if args.picture else None)
    for row in shown.record["at"]:
        numbers = f"alpha {row['alpha']:<9.4g}  sigma {row['sigma']:<9.4g}  log-SNR {row['log_snr']}"
        screen.say(f"t {row['t']:<8.3g}  {numbers}")
    output, picture = args.output, shown.picture
    path = save(picture, output) if output else save_numbered(picture, OUT, args.name)
    screen.say(str(path))
    return {**shown.record, "picture": str(path)}
