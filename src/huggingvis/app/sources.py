"""What a request of the command line starts from: the flags of `core.request_sources`.

    --image cat.png --strength 0.5                        image-to-image; strength 0 gives the picture back
    --image cat.png --resize-mode crop                    cut to the canvas's shape instead of pulled to it
    --image cat.png --mask hole.png                       inpainting
    --image cat.png --mask hole.png --inpaint method=repaint,resamples=5
    --image cat.png --mask hole.png --inpaint region=masked,padding=16,blur=4
    --image cat.png --outpaint 32                         32 pixels of new canvas at every side
    --image cat.png --outpaint left=32,right=32,seam=8
    --image grey.png --colourise                          the grey stays, colours are made
    --image grey.png --colourise resamples=5

A kind of source that says what its flag does (`SourceKind.flag`) has one of its name, after which its fields stand.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, cast, get_args

from huggingvis.app.arguments import one_of
from huggingvis.core import config
from huggingvis.core.errors import UsageError, unknown
from huggingvis.core.flags import Flag, flags, parse
from huggingvis.core.request import FromPicture, Source
from huggingvis.core.request_sources import kind_after, kinds
from huggingvis.core.request_sources.kind import SourceKind
from huggingvis.core.resizing import Resize

_OWN_FLAGS = {"path": "--image", "mask": "--mask", "strength": "--strength", "resize": "--resize-mode"}
"""Fields that have a flag of their own."""
_FILES = ("path", "mask")
_PLAIN = "yes"
"""A kind's flag that stands alone: all its numbers are the usual ones."""


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
    for kind in _flagged():
        takes = "N|NAME=VALUE,…" if kind.alone else "NAME=VALUE,…"
        parser.add_argument(_flag(kind), metavar=takes, nargs="?", const=_PLAIN, help=_help(kind))


def sources_said(args: argparse.Namespace) -> bool:
    """Whether any of the flags was given."""
    return bool(_said(args))


def source_of(args: argparse.Namespace, base: Source | None, numbers: Mapping[str, Any]) -> Source | None:
    """What the flags say of a picture to start from, on top of `base`; one that is begun here has `numbers`.

    Raises `UsageError` for what does not fit.
    """
    said, files = _said(args), _files(args, base)
    if not said:
        return base
    if "path" not in files:
        raise UsageError(f"{said[0]} is about a picture to start from: give it with --image.")
    kind = _kind(args, base, files)
    takes = config.types_of(kind)
    _check_fit(args, kind, files)
    if type(base) is not kind:
        own = {name: value for name, value in {**numbers, **files}.items() if name in takes}
        base = cast(Source, config.from_dict(kind, own))
    words = [f"--{name}={value}" for name, value in _pairs(kind, _word(args, _flag(kind)) or _PLAIN)]
    words += [f"--{field}={_word(args, flag)}" for field, flag in _OWN_FLAGS.items() if flag in said]
    return cast(Source, parse(kind, words, base=base))


def _flagged() -> list[type[SourceKind]]:
    """The kinds that have a flag."""
    return [kind for kind in kinds() if kind.flag is not None]


def _flag(kind: type[SourceKind]) -> str:
    return f"--{kind.__name__.lower()}"


def _word(args: argparse.Namespace, flag: str) -> Any:
    """What was said after a flag; None where it was not given, or there is none."""
    return vars(args).get(flag.removeprefix("--").replace("-", "_"))


def _said(args: argparse.Namespace) -> list[str]:
    """The flags that were given."""
    every = [*_OWN_FLAGS.values(), *map(_flag, _flagged())]
    return [flag for flag in every if _word(args, flag) is not None]


def _files(args: argparse.Namespace, base: Source | None) -> dict[str, str]:
    """The files by their fields: those given, else those of `base`; a mask goes with its picture."""
    before = {} if base is None or args.image is not None else vars(base)
    given = {name: _word(args, _OWN_FLAGS[name]) for name in _FILES}
    found = {name: before.get(name) if file is None else file for name, file in given.items()}
    return {name: file for name, file in found.items() if file is not None}


def _kind(args: argparse.Namespace, base: Source | None, files: Mapping[str, str]) -> type[SourceKind]:
    """What kind of source the flags make of `base`. Raises `UsageError` where they ask for two."""
    asked = [kind for kind in _flagged() if _word(args, _flag(kind)) is not None]
    if len(asked) > 1:
        raise UsageError(f"{_flag(asked[0])} does not go with {_flag(asked[1])}. Do one after the other.")
    if asked:
        return asked[0]
    kind: type[SourceKind] = FromPicture if base is None else type(base)
    if "mask" in config.types_of(kind):
        return kind if "mask" in files else FromPicture
    return (kind_after(FromPicture.__name__, "mask") or kind) if "mask" in files else kind


def _check_fit(args: argparse.Namespace, kind: type[SourceKind], files: Mapping[str, str]) -> None:
    """Raises `UsageError` for a flag of a field that `kind` does not have, and for a file that it lacks."""
    takes = config.types_of(kind)
    for field, flag in _OWN_FLAGS.items():
        if field not in takes and _word(args, flag) is not None:
            raise UsageError(f"{flag} does not go with {_flag(kind)}. Leave one out, or do one after the other.")
        if field in takes and field in _FILES and field not in files:
            raise UsageError(f"{_flag(kind)} says {kind.flag}: give the {field} with {flag}.")


def _pairs(kind: type[SourceKind], words: str) -> list[tuple[str, str]]:
    """`left=32,soft` as names and values; a number alone is that of every field in `kind.alone`."""
    if kind.alone and words.strip().lstrip("-").isdecimal():
        return [(name, words.strip()) for name in kind.alone]
    known = {flag.name: flag for flag in _fields(kind)}
    found = []
    for word in filter(None, words.split(",") if words != _PLAIN else ()):
        name, equals, value = (part.strip() for part in word.partition("="))
        if name not in known and " " in word.strip() and not equals:
            raise UsageError(
                f"After {_flag(kind)} stand its numbers, {', '.join(known)}; found {word!r}. A prompt comes before it."
            )
        if name not in known:
            raise unknown(f"number of {_flag(kind)}", name, known)
        if not equals and not known[name].truth:
            raise UsageError(f"{_flag(kind)} takes {name} with a value, as in {name}=…; found {word!r}.")
        found.append((name, value if equals else "yes"))
    return found


def _fields(kind: type[SourceKind]) -> list[Flag]:
    return [flag for flag in flags(kind) if flag.name not in _OWN_FLAGS]


def _help(kind: type[SourceKind]) -> str:
    told = "; ".join(f"{flag.name}: {flag.meaning}" for flag in _fields(kind))
    return f"{kind.flag}. {told}".replace("%", "%%")
