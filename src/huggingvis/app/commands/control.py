"""Show what a ControlNet will see: edges, lines, colours and more of a picture.

hvis control canny photo.png -o edges.png
hvis control canny photo.png --low 50 --high 150 --size 512x768 --fit crop
hvis control                                                   what there is
hvis generate "a red fox" --model model.safetensors --control canny:photo.png:0.8
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingvis.app.arguments import add_record, one_of, words_of
from huggingvis.app.preferences import preferences
from huggingvis.app.screen import Screen
from huggingvis.core.errors import UsageError
from huggingvis.core.files import check_file, check_folder
from huggingvis.core.flags import parse
from huggingvis.core.request import FITS
from huggingvis.core.request_fields import sides_of


def arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    from huggingvis.data.control_pictures import kind_named

    parser.add_argument("how", nargs="?", help="what is made of it; `hvis control HOW --help` shows its numbers")
    parser.add_argument("picture", nargs="?", type=Path, help="a picture file")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="the result (default numbered in out)")
    parser.add_argument("--size", metavar="WxH", help="the canvas that it is for (default the picture's own)")
    parser.add_argument(
        "--fit", metavar="WAY", type=one_of("way to fit", FITS), default=FITS[0],
        help="how it comes to the canvas's shape: stretch, crop or fill (default stretch)",
    )  # fmt: skip
    if words and not words[0].startswith("-"):
        how = words[0].partition(",")[0]
        found = kind_named(how)
        parser.prog, parser.description = f"{parser.prog} {how}", (found.__doc__ or "").partition("\n")[0]
        add_record(parser, found)
        return
    rows = "\n".join(f"  {name:<11}  {line}" for name, line in _lines().items())
    parser.epilog = f"What there is, to be named before any flag:\n{rows}"


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    from huggingvis import api
    from huggingvis.core import config
    from huggingvis.data.control_pictures import kind_named, name_of
    from huggingvis.export.image import save, save_numbered

    if args.how is None:
        for name, line in _lines().items():
            screen.say(f"{name:<11}  {line}")
        return {"ways": _lines()}
    if args.picture is None:
        raise UsageError(f"Name the picture too, as in `hvis control {args.how} photo.png`.")
    how, *told = args.how.split(",")  # numbers as in --control canny,low=50
    kind = kind_named(how)
    numbers = config.to_dict(parse(kind, [*(f"--{word}" for word in told), *words_of(kind, args)]))
    folder = preferences().output
    if args.output is not None:
        check_file(args.output)
    else:
        check_folder(folder)
    made = api.control(how, args.picture, numbers=numbers, size=_size(args.size), fit=args.fit)
    name = str(name_of(how))
    words = f"{name.replace('_', ' ')} {args.picture.stem}"
    output = args.output
    path = save(made, output) if output is not None else save_numbered(made, folder, words)
    bright = float((made.pixels > 127).mean())
    screen.say(f"{path}  ({made.size[0]}x{made.size[1]} pixels, {bright:.1%} of them bright)")
    return {"path": str(path), "how": name, "numbers": numbers, "size": list(made.size), "bright": round(bright, 4)}


def _lines() -> dict[str, str]:
    """What every way makes of a picture."""
    from huggingvis.data.control_pictures import preparations

    return {name: (kind.__doc__ or "").partition("\n")[0] for name, kind in preparations().items()}


def _size(words: str | None) -> tuple[int, int] | None:
    if words is None:
        return None
    sides = sides_of(words)
    if sides is None or not all(1 <= side <= 8192 for side in sides):
        raise UsageError(f"--size takes width and height, 1 to 8192 pixels, as in --size 512x768; found {words!r}.")
    return sides
