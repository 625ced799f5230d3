"""A look at pictures while they are made.

--preview now.png                 one file that is written anew
--preview seen --preview-every 5  a folder with a file for every fifth step
--preview-decoder taesd_decoder.safetensors    shown by a TAESD in the place of a fitted linear map
"""

from __future__ import annotations

import argparse
import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING

from huggingvis.app.arguments import whole
from huggingvis.app.screen import Screen
from huggingvis.core.errors import UsageError
from huggingvis.core.files import check_folder

if TYPE_CHECKING:
    from huggingvis.core.media import Picture
    from huggingvis.core.protocols import OnStep, Step
    from huggingvis.core.system import System

KINDS = (".png", ".jpg", ".jpeg", ".webp")
LEAST = 256
"""Pixels of a shown picture: previews are small, and enlarged to be seen."""


def add_preview(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    words = parser.add_argument_group("looking on")
    words.add_argument("--preview", metavar="FILE|FOLDER", type=Path, help="show pictures while they are made")
    words.add_argument(
        "--preview-every", metavar="N", type=whole("--preview-every", 1), help="at every N-th step (default 1)"
    )
    words.add_argument("--preview-decoder", metavar="FILE", type=Path, help="a TAESD decoder that shows latents")


def previewed(args: argparse.Namespace, system: System, screen: Screen) -> OnStep | None:
    """What hears of each step and writes previews; None for none. Raises `UsageError`, `FileProblem`."""
    if args.preview is None:
        if args.preview_every is not None or args.preview_decoder is not None:
            raise UsageError("--preview-every and --preview-decoder are about previews: say where with --preview.")
        return None
    path: Path = args.preview
    one = path.suffix.lower() in KINDS
    folder = check_folder(path.parent if one else path)
    from huggingvis.edits.preview import Preview

    decoder = None
    if args.preview_decoder is not None:
        from huggingvis.systems.taesd import bind_decoder

        decoder = bind_decoder(args.preview_decoder)
    numbers = itertools.count(1)

    def show(pictures: list[Picture], step: Step) -> None:
        from huggingvis.export.grid import Sheet, cell_for, contact_sheet
        from huggingvis.export.image import save

        cell = cell_for(max(pictures[0].size), LEAST)
        columns = math.ceil(math.sqrt(len(pictures)))
        sheet = contact_sheet(pictures, Sheet(columns=columns, cell=cell)) if len(pictures) > 1 else _large(pictures[0])
        folder.mkdir(parents=True, exist_ok=True)
        save(sheet, path if one else path / f"{next(numbers):05d}.png")

    screen.say(f"{path}  (shows what is being made)")
    return Preview(system, show, args.preview_every or 1, decoder)


def _large(picture: Picture) -> Picture:
    """The picture enlarged smoothly."""
    from PIL import Image

    from huggingvis.core.media import Picture as Shown

    times = math.ceil(LEAST / max(picture.size))
    width, height = (times * side for side in picture.size)
    return Shown.from_pil(picture.to_pil().resize((width, height), Image.Resampling.BICUBIC))
