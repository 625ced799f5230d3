"""What a request of the command line starts from: the flags of `core.request_sources`.

    --image cat.png --strength 0.5                        image-to-image; strength 0 gives the picture back
    --image cat.png --resize-mode crop                    cut to the canvas's shape instead of pulled to it
    --image cat.png --mask hole.png                       inpainting
    --image cat.png --mask hole.png --inpaint method=repaint,resamples=5
    --image cat.png --mask hole.png --inpaint region=masked,padding=16,blur=4
    --image cat.png --outpaint 32                         32 pixels of new canvas at every side
    --image cat.png --outpaint left=32,right=32,seam=8

What may stand after --inpaint and --outpaint are the fields of `Inpaint` and `Outpaint`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar, get_args

from huggingvis.app.arguments import one_of
from huggingvis.core.errors import UsageError, unknown
from huggingvis.core.flags import Flag, flags, parse
from huggingvis.core.request import FromPicture, Inpaint, Outpaint, Source
from huggingvis.core.resizing import Resize

S = TypeVar("S", bound=Source)
_OWN_FLAGS = ("path", "mask", "strength", "resize")
"""Fields that have a flag of their own."""


def add_sources(parser: argparse._ActionsContainer) -> None:
    """The flags."""
    parser.add_argument("--image", metavar="PICTURE", help="a picture to start from")
    parser.add_argument("--mask", metavar="PICTURE", help="white where --image is made anew, black where it stays")
    parser.add_argument(
        "--strength", metavar="X", type=float, help="how much of --image is made anew, 0 to 1 (default 0.6, with a "
                                                    "mask or new canvas 1)"
    )  # fmt: skip
    parser.add_argument(
        "--resize-mode", metavar="NAME", type=one_of("resize mode", get_args(Resize)),
        help="how --image comes to the canvas's size: stretch, crop, or fill around it (default stretch)",
    )  # fmt: skip
    parser.add_argument("--inpaint", metavar="NAME=VALUE,…", help=_help("how the mask is filled", Inpaint))
    parser.add_argument(
        "--outpaint", metavar="N|NAME=VALUE,…",
        help=_help("--image grows by N pixels at every side, or as said", Outpaint),
    )  # fmt: skip


def sources_said(args: argparse.Namespace) -> bool:
    """Whether any of the flags was given."""
    words = (args.image, args.mask, args.resize_mode, args.inpaint, args.outpaint)
    return any(word is not None for word in words) or args.strength is not None


def source_of(args: argparse.Namespace, base: Source | None, numbers: Mapping[str, Any]) -> Source | None:
    """What the flags say of a picture to start from, on top of `base`; one that is begun here has `numbers`.

    Raises `UsageError` for what does not fit.
    """
    if not sources_said(args):
        return base
    path = args.image or (base.path if base else None)
    if path is None:
        raise UsageError(
            "--mask, --strength, --resize-mode, --inpaint and --outpaint are about a picture to start from: give it "
            "with --image."
        )
    mask = args.mask or (base.mask if isinstance(base, Inpaint) and not args.image else None)
    if args.outpaint is not None or (isinstance(base, Outpaint) and mask is None):
        if mask is not None or args.resize_mode is not None or args.inpaint is not None:
            raise UsageError(
                "--outpaint makes new canvas around the whole picture as it is, so --mask, --inpaint and --resize-mode "
                "do not go with it. Do one after the other."
            )
        return _told(_begun(Outpaint(path), numbers), args.outpaint, args, base)
    if mask is not None:
        return _told(_begun(Inpaint(path, mask), numbers), args.inpaint, args, base)
    if args.inpaint is not None:
        raise UsageError("--inpaint says how a mask is filled: give the mask with --mask.")
    if base is None or isinstance(base, Inpaint):  # whose mask goes with its picture
        return _told(_begun(FromPicture(path), numbers), None, args, None)
    return _told(replace(base, path=path), None, args, base)


def _begun(plain: S, numbers: Mapping[str, Any]) -> S:
    """With those of the numbers that its kind has."""
    return replace(plain, **{flag.name: numbers[flag.name] for flag in flags(type(plain)) if flag.name in numbers})


def _told(plain: S, words: str | None, args: argparse.Namespace, base: Source | None) -> S:
    """`base` if it is of the kind of `plain`, else `plain`; with the files of `plain` and what the flags say."""
    said = [f"--{name}={value}" for name, value in _pairs(type(plain), words or "")]
    said.append(f"--path={plain.path}")
    if isinstance(plain, Inpaint):
        said.append(f"--mask={plain.mask}")
    if args.resize_mode is not None:
        said.append(f"--resize={args.resize_mode}")
    if args.strength is not None:
        said.append(f"--strength={args.strength}")
    return parse(type(plain), said, base=base if isinstance(base, type(plain)) else plain)


def _pairs(kind: type, words: str) -> list[tuple[str, str]]:
    """`left=32,soft` as names and values; a number alone is that of every side."""
    if kind is Outpaint and words.strip().lstrip("-").isdecimal():
        return [(side, words.strip()) for side in ("left", "right", "top", "bottom")]
    known = {flag.name: flag for flag in _fields(kind)}
    found = []
    for word in filter(None, words.split(",")):
        name, equals, value = (part.strip() for part in word.partition("="))
        if name not in known:
            raise unknown(f"number of --{kind.__name__.lower()}", name, known)
        if not equals and not known[name].truth:
            raise UsageError(f"--{kind.__name__.lower()} takes {name} with a value, as in {name}=…; found {word!r}.")
        found.append((name, value if equals else "yes"))
    return found


def _fields(kind: type) -> list[Flag]:
    return [flag for flag in flags(kind) if flag.name not in _OWN_FLAGS]


def _help(what: str, kind: type) -> str:
    told = "; ".join(f"{flag.name}: {flag.meaning}" for flag in _fields(kind))
    return f"{what}. {told}".replace("%", "%%")
