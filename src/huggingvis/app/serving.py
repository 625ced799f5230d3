"""What those who serve pictures to others ask for: a safety checker, and files that say nothing of their making.

    --safety-checker FOLDER     pictures that it refuses come out black, and say so
    --format jpeg               another kind of file than PNG: jpeg or webp
    --no-metadata               no request, no `parameters` text, no EXIF, and no words in the file's name

Neither is in the way of anybody who does not ask.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from huggingvis.app.arguments import one_of
from huggingvis.app.locating import places, told
from huggingvis.app.preferences import Preferences
from huggingvis.app.screen import Screen

if TYPE_CHECKING:
    from huggingvis.core.media import Picture

FORMATS = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
"""Kinds of files, and how their names end."""


def add_serving(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    words = parser.add_argument_group("serving others")
    words.add_argument(
        "--safety-checker", metavar="FOLDER",
        help="blank what Stable Diffusion's safety checker refuses: its folder, or owner/name:safety_checker at a hub",
    )  # fmt: skip
    words.add_argument(
        "--no-metadata", action="store_true", help="write pictures without prompt, settings or any other record"
    )
    words.add_argument(
        "--format", metavar="NAME", type=one_of("format", tuple(FORMATS)), default="png",
        help=f"of the files: {', '.join(FORMATS)} (default png; the others lose a little)",
    )  # fmt: skip


@final
@dataclass(frozen=True)
class Output:
    """Where finished pictures go, and what is done to them before. `judge`: what looks at each; None for nothing."""

    folder: Path
    screen: Screen
    metadata: bool = True
    format: str = "png"
    judge: Callable[[Picture], Picture] | None = None

    @property
    def extension(self) -> str:
        """How the files' names end."""
        return FORMATS[self.format]

    def checked(self, picture: Picture) -> Picture:
        """What may be saved of a picture; what the judge says against it is told."""
        if self.judge is None:
            return picture
        shown = self.judge(picture)
        for note in shown.made.get("notes", ())[len(picture.made.get("notes", ())) :]:
            self.screen.note(f"Seed {picture.made['seed']}: {note}")
        return shown

    def save(self, picture: Picture) -> Path:
        """The file of a picture."""
        from huggingvis import api

        (path,) = api.export([picture], self.folder, metadata=self.metadata, extension=self.extension)
        return path

    def name(self, words: str) -> str:
        """What a file is called that is about `words`."""
        return words if self.metadata else ""


def output_of(args: argparse.Namespace, folder: Path, usual: Preferences, screen: Screen) -> Output:
    """What the flags ask for. Raises `UsageError`, `FileProblem` for a safety checker that is not there."""
    judge = None
    if args.safety_checker:
        from huggingvis import api
        from huggingvis.checkpoints.hub import USUAL
        from huggingvis.checkpoints.resolve import resolve

        with told(screen, USUAL) as how:
            path = resolve(args.safety_checker, places(args, usual), how=how)
        judge = api.safety_checker(path, device=args.device or usual.device)
    return Output(folder, screen, not args.no_metadata, args.format, judge)
