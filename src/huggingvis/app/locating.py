"""Where the model is that a verb was given: a path, a packaged name, a model of another program here, or at a hub.

A hub's model is fetched with a bar on the terminal, and words where it has to wait or goes on with an older transfer.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from huggingvis.app.preferences import Preferences
from huggingvis.app.screen import Screen

if TYPE_CHECKING:
    from huggingvis.app.screen import Tick
    from huggingvis.checkpoints.hub import Fetching, Progress

MODEL = "a packaged model, a model or run folder, a file, a model of --models, or owner/name at a hub"
"""What `--model` takes, for its help."""


def add_places(parser: argparse.ArgumentParser) -> None:
    """The flag that names the folders of other programs."""
    parser.add_argument(
        "--models", metavar="FOLDER", type=Path, action="append",
        help="a folder of A1111, Forge or ComfyUI, or an extra_model_paths.yaml, whose models can be named "
             "(may be given several times; default: `models` in the settings file)",
    )  # fmt: skip


def places(args: argparse.Namespace, usual: Preferences) -> tuple[Path, ...]:
    """The folders of other programs: those that were said, or else the preferred ones."""
    return tuple(args.models or usual.models)


def located(
    named: str | None, args: argparse.Namespace, usual: Preferences, screen: Screen, kind: str = "checkpoint"
) -> str | Path | None:
    """What `api.load` is to load: packaged names as they are, all else as a path that is here.

    `kind`: what it is for, a key of `checkpoints.local_folders.KINDS`. Raises as `checkpoints.resolve.resolve`.
    """
    from huggingvis.api import packaged_models

    packaged = packaged_models() if kind == "checkpoint" else ()
    if named is None or os.path.exists(named) or named in packaged:
        return named
    from huggingvis.checkpoints.hub import USUAL
    from huggingvis.checkpoints.resolve import resolve

    with told(screen, USUAL) as how:
        return resolve(named, places(args, usual), kind=kind, how=how, known=packaged)


@contextlib.contextmanager
def told(screen: Screen, how: Fetching) -> Iterator[Fetching]:
    """`how`, with a bar that begins with the first byte and words on the screen."""
    with contextlib.ExitStack() as stack:
        bars: dict[int, Tick] = {}

        def progress(at: Progress) -> None:
            if at.total not in bars:  # a small first transfer says what the large second one is
                stack.close()
                bars[at.total] = stack.enter_context(screen.progress("fetching (bytes)", at.total))
            bars[at.total](at.done)

        yield replace(how, progress=progress, say=screen.note)
