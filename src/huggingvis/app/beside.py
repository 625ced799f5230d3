"""What a request of the command line has beside its words: a picture to start from, and adapters.

    --image cat.png --strength 0.5            image-to-image, and more of `app.sources`
    --lora style.safetensors:0.8              a LoRA with its weight
    --embedding wombat.pt                     a textual inversion, called by its word in the prompt
    --control canny.safetensors:edges.png:0.7 a ControlNet, T2I-Adapter or IP-Adapter, its picture, its weight

Weights' files may be named as in folders of other programs, or as OWNER/NAME at a hub, like models.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from huggingvis.app.locating import places, told
from huggingvis.app.preferences import Preferences
from huggingvis.app.screen import Screen
from huggingvis.app.sources import add_sources, sources_said
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.request import AdapterUse, Inpaint, Request

_FLAGS = {"lora": ("lora",), "embedding": ("embedding",), "controlnet": ("controlnet", "t2i-adapter", "ip-adapter")}
"""By what a flag's file is looked for as, the kinds of `checkpoints.kinds` that it takes."""
_FLAG_OF = {"lora": "--lora FILE:WEIGHT", "embedding": "--embedding FILE", "controlnet": "--control FILE:PICTURE"}


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
    words.add_argument(
        "--control", metavar="FILE:PICTURE[:WEIGHT]", action="append", default=[],
        help="a ControlNet, T2I-Adapter or IP-Adapter and the picture that it reads",
    )  # fmt: skip
    words.add_argument("--vae", metavar="NAME", help="an autoencoder in the place of the model's own")
    words.add_argument(
        "--prediction", choices=("epsilon", "v"), help="what the net of a single file predicts, if it does not tell"
    )
    words.add_argument("--image-encoder", metavar="FOLDER", default="", help="what an IP-Adapter of --control sees by")


def said(args: argparse.Namespace) -> bool:
    """Whether any of the flags was given."""
    return bool(args.lora or args.embedding or args.control) or sources_said(args)


def adapters_of(
    args: argparse.Namespace, base: tuple[AdapterUse, ...], usual: Preferences, screen: Screen
) -> tuple[AdapterUse, ...]:
    """The adapters that the flags name, or those of `base` where they name none. Raises `UsageError`, `FileProblem`."""
    uses = [_lora(word) for word in args.lora]
    uses += [AdapterUse(word) for word in args.embedding]
    uses += [_control(word, args.image_encoder) for word in args.control]
    kinds = ["lora"] * len(args.lora) + ["embedding"] * len(args.embedding) + ["controlnet"] * len(args.control)
    found = [_here(use, kind, args, usual, screen) for use, kind in zip(uses, kinds, strict=True)]
    return tuple(found) or base


def check_files(request: Request, record: Path | None) -> None:
    """Refuse a request whose files are not there before a model is loaded for it; `record`: the picture it comes from.

    Raises `FileProblem`.
    """
    source = request.source
    pictures = (source.path, source.mask if isinstance(source, Inpaint) else "") if source else ()
    of_adapters = (path for use in request.adapters for path in (use.path, use.image, use.encoder))
    for path in filter(None, (*pictures, *of_adapters)):
        if not os.path.lexists(path):
            why = "Check the path."
            if record is not None:
                why = (
                    f"The record of {record} names it, as seen from the folder where that was made: go there, or name "
                    "it again by its flag (--image, --lora, ...)."
                )
            raise FileProblem(f"There is no file {path}. {why}")


def _lora(word: str) -> AdapterUse:
    path, weight = _weighted(word)
    return AdapterUse(path, weight)


def _control(word: str, encoder: str) -> AdapterUse:
    rest, weight = _weighted(word)
    path, _, image = rest.rpartition(":")
    if not path:
        raise UsageError(
            f"--control takes a file and the picture that it reads, as in canny.safetensors:edges.png:0.7; found "
            f"{word!r}."
        )
    return AdapterUse(path, weight, image, encoder=encoder)


def _weighted(word: str) -> tuple[str, float]:
    """FILE:0.8 as its parts; without a number, 1."""
    path, _, last = word.rpartition(":")
    if path and not os.path.exists(word):
        try:
            return path, float(last)
        except ValueError:
            pass
    return word, 1.0


def _here(use: AdapterUse, kind: str, args: argparse.Namespace, usual: Preferences, screen: Screen) -> AdapterUse:
    """The adapter with the path of its file on this machine."""
    from huggingvis.checkpoints.hub import USUAL
    from huggingvis.checkpoints.kinds import kind_of
    from huggingvis.checkpoints.resolve import resolve

    with told(screen, USUAL) as how:
        path: Path = resolve(use.path, places(args, usual), kind=kind, how=how)
    found = kind_of(path)
    if found.adapter and found.name not in _FLAGS[kind]:
        flag = next(flag for name, flag in _FLAG_OF.items() if found.name in _FLAGS[name])
        raise UsageError(f"{path} is {found.title}: give it with {flag}.")
    return AdapterUse(str(path), use.weight, use.image, use.start, use.end, use.encoder)
