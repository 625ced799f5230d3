"""What a request of the command line says of its size: a second pass, a second model, windows over a large canvas.

--size 96x64                                    width and height in one
--hires 2 --refine.strength 0.5                 a second pass at twice the size ("hires fix")
--refiner refiner.safetensors --refiner-at 0.8  a second model for the last steps, as SDXL's
--size 1024x512 --tiles.overlap 0.5             windows of the model's own size over a larger canvas
--vae-tile 512                                  the autoencoder in tiles, to save memory
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from huggingvis.app.arguments import add_record, record_of, words_of
from huggingvis.app.locating import located
from huggingvis.app.preferences import Preferences
from huggingvis.app.screen import Screen
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.request import Canvas, Refine, Refiner, Request, Tiles
from huggingvis.core.request_fields import sides_of


@dataclass(frozen=True)
class Sizes:
    """The parts of a request that have flags of their fields."""

    refine: Refine | None = None  #: "none": without the second pass of a picture's record
    tiles: Tiles | None = None  #: "none": without the windows of a picture's record; "Tiles": with the usual ones


class Size(argparse.Action):
    """`--size 96x64` as `--width 96 --height 64`; one number is both."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        sides = sides_of(values)
        if sides is None:
            raise UsageError(f"--size takes width and height in pixels, as in --size 96x64; found {values!r}.")
        _say(namespace, Canvas, [f"--width={sides[0]}", f"--height={sides[1]}"])


class _Hires(argparse.Action):
    """`--hires 2` as `--refine.scale 2`, `--hires 96x64` as `--refine.width 96 --refine.height 64`."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        sides = sides_of(values, square=False)
        if sides is not None:
            _say(namespace, Sizes, [f"--refine.width={sides[0]}", f"--refine.height={sides[1]}"])
        elif re.fullmatch(r"\d+(\.\d+)?", values):
            _say(namespace, Sizes, [f"--refine.scale={values}", "--refine.width=none", "--refine.height=none"])
        else:
            raise UsageError(
                f"--hires takes how often larger, or a size, as in --hires 1.5 or 96x64; found {values!r}."
            )


def add_sizes(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.add_argument("--hires", metavar="X", action=_Hires, help="a second pass so many times larger, or of WxH")
    add_record(parser, Sizes)
    parser.add_argument("--refiner", metavar="MODEL", help="a second model for the last steps; none: without it")
    parser.add_argument(
        "--refiner-at", metavar="X", type=float,
        help=f"0 to 1: the part of the walk where it takes over (default {Refiner('').at})",
    )  # fmt: skip


def sizes_said(args: argparse.Namespace) -> bool:
    """Whether any of the flags was given."""
    return bool(words_of(Sizes, args)) or args.refiner is not None or args.refiner_at is not None


def sizes_of(args: argparse.Namespace, base: Request) -> dict[str, Any]:
    """The fields of the request that the flags describe, on top of `base`. Raises `UsageError`."""
    found = record_of(Sizes, args, Sizes(base.refine, base.tiles))
    return {"refine": found.refine, "tiles": found.tiles}


def refiner_of(args: argparse.Namespace, base: Refiner | None, usual: Preferences, screen: Screen) -> Refiner | None:
    """The second model, with the path that it has here. Raises `UsageError` for a part of the walk without a model."""
    if args.refiner == "none":
        return None
    if args.refiner is not None:
        base = Refiner(str(located(args.refiner, args, usual, screen)), base.at if base else Refiner("").at)
    elif base is not None and not os.path.lexists(base.model):
        raise FileProblem(
            f"The picture's record names the refiner {base.model}, as seen from the folder where it was made, but it "
            "is not there: go to that folder, or name it again with --refiner."
        )
    if args.refiner_at is None:
        return base
    if base is None:
        raise UsageError("--refiner-at is about a second model: name it with --refiner.")
    return replace(base, at=args.refiner_at)


def calls_of(request: Request) -> int:
    """Steps of one picture, in both passes."""
    refine = request.refine
    return request.sampling.steps + (refine.steps if refine is not None and refine.strength > 0.0 else 0)


def _say(namespace: argparse.Namespace, cls: type, words: Sequence[str]) -> None:
    setattr(namespace, cls.__qualname__, [*(getattr(namespace, cls.__qualname__) or ()), *words])
