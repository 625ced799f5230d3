"""What a request of the command line has beside its words: a picture to start from, and adapters.

    --image cat.png --strength 0.5            image-to-image, and more of `app.sources`
    --lora style.safetensors:0.8              a LoRA with its weight
    --embedding wombat.pt                     a textual inversion, called by its word in the prompt
    --control canny:photo.png:0.7             what a ControlNet of your folders reads of a picture (recipes/controls)
    --control canny.safetensors:edges.png:0.7 a ControlNet, T2I-Adapter or IP-Adapter, its picture, its weight

Weights' files may be named as in folders of other programs, or as OWNER/NAME at a hub, like models.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from huggingvis.app.controls import add_controls, controls_of
from huggingvis.app.locating import located, places, told
from huggingvis.app.preferences import Preferences
from huggingvis.app.screen import Screen
from huggingvis.app.sources import add_sources, sources_said
from huggingvis.core.request import AdapterUse, Request


def add_beside(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    words = parser.add_argument_group("pictures and adapters")
    add_sources(words)
    words.add_argument(
        "--lora", metavar="FILE[:WEIGHT]", action="append", default=[], help="a LoRA (may be given several times)"
    )
    words.add_argument(
        "--embedding", metavar="FILE", action="append", default=[], help="a textual inversion, called in the prompt"
    )
    add_controls(words)
    words.add_argument("--vae", metavar="NAME", help="an autoencoder in the place of the model's own")
    words.add_argument(
        "--text-encoder", metavar="NAME", action="append", default=[],
        help="a text encoder in the place of the model's own (may be given twice, for the two of XL)",
    )  # fmt: skip
    words.add_argument(
        "--prediction", choices=("epsilon", "v"), help="what the net of a single file predicts, if it does not tell"
    )
    words.add_argument("--image-encoder", metavar="FOLDER", default="", help="what an IP-Adapter of --control sees by")


def find_parts(args: argparse.Namespace, usual: Preferences, screen: Screen) -> None:
    """Put where they lie in the place of what --vae and --text-encoder call parts of the model.

    Raises `UsageError`, `FileProblem`.
    """
    args.vae = located(args.vae, args, usual, screen, "vae")
    args.text_encoder = [located(name, args, usual, screen, "text-encoder") for name in args.text_encoder]


def said(args: argparse.Namespace) -> bool:
    """Whether any of the flags was given."""
    return bool(args.lora or args.embedding or args.control) or sources_said(args)


def adapters_of(
    args: argparse.Namespace, base: tuple[AdapterUse, ...], usual: Preferences, screen: Screen
) -> tuple[AdapterUse, ...]:
    """The adapters that the flags name, or those of `base` where they name none. Raises `UsageError`, `FileProblem`."""
    from huggingvis.checkpoints.hub import USUAL
    from huggingvis.recipes.beside import here, lora_of

    asked = [("lora", lora_of(word)) for word in args.lora]
    asked += [("embedding", AdapterUse(word)) for word in args.embedding]
    asked += [("controlnet", use) for use in controls_of(args, usual, screen)]
    roots, found = places(args, usual), list[AdapterUse]()
    for kind, use in asked:
        with told(screen, USUAL) as how:
            found.append(here(use, kind, roots, how))
    return tuple(found) or base


def check_files(request: Request, record: Path | None) -> None:
    """Refuse a request whose files are not there before a model is loaded for it; `record`: the picture it comes from.

    Raises `FileProblem`.
    """
    from huggingvis.recipes.beside import check_files as check

    check(request, record)
