"""`--control` and `--control-fit` of the command line; what their words mean, `recipes.controls` says."""

from __future__ import annotations

import argparse

from huggingvis.app.arguments import one_of
from huggingvis.app.locating import located, places
from huggingvis.app.preferences import Preferences
from huggingvis.app.screen import Screen
from huggingvis.core.request import FITS, AdapterUse


def add_controls(group: argparse._ArgumentGroup) -> None:
    """The flags."""
    group.add_argument(
        "--control", metavar="[HOW|FILE|HOW=FILE]:PICTURE[:WEIGHT][:FROM-TO]", action="append", default=[],
        help="what a ControlNet, T2I-Adapter or IP-Adapter reads, as in canny:photo.png:0.8 (may be given several "
             "times; `hvis control` tells how pictures can be prepared)",
    )  # fmt: skip
    group.add_argument(
        "--control-fit", metavar="WAY", type=one_of("way to fit", FITS), default=FITS[0],
        help="how pictures of --control come to the canvas's shape: stretch, crop or fill (default stretch)",
    )  # fmt: skip


def controls_of(args: argparse.Namespace, usual: Preferences, screen: Screen) -> list[AdapterUse]:
    """What the flags say, with the nets found that were not named. Raises `UsageError`, `FileProblem`."""
    if not args.control:
        return []
    from huggingvis.recipes.controls import Nets, parts_of, use_of

    nets = Nets(places(args, usual), lambda: located(args.model or usual.model, args, usual, screen), screen.note)
    return [use_of(parts_of(word), nets, args.image_encoder, args.control_fit) for word in args.control]
