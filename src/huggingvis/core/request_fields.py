"""Fields of a request by the names that people give them, for files of requests and axes of grids.

    with_field(request, "sampling.steps", 30)      its place in the record
    with_field(request, "steps", "30")             its last name, where a file gives a text
    with_field(request, "cfg", 7)                  what other programs call it
    with_field(request, "adapters.0.weight", 0.5)  the strength of the first adapter
    with_field(request, "prompt:fox", "cat")       search and replace in both prompts

New fields of the record have their names here by themselves. Book: the three walks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from huggingvis.core import config
from huggingvis.core.errors import UsageError, unknown
from huggingvis.core.flags import flags, from_text
from huggingvis.core.request import AdapterUse, Request
from huggingvis.core.request_sources import beginnings, kind_after

ALIASES: Mapping[str, str] = {
    "prompt": "prompt.text", "negative": "prompt.negative", "negative_prompt": "prompt.negative",
    "cfg": "sampling.guidance_scale", "cfg_scale": "sampling.guidance_scale", "guidance": "sampling.guidance_scale",
    "sampler_name": "sampling.sampler", "sampler_index": "sampling.sampler", "scheduler": "sampling.schedule",
    "batch_size": "canvas.count", "n": "canvas.count",
    "image": "source.path", "mask": "source.mask", "strength": "source.strength", "denoising": "source.strength",
    "denoising_strength": "source.strength", "clip_skip": "options.clip_skip",
    "hires": "refine.scale", "refiner": "refiner.model",
    "refiner_at": "refiner.at", "resize_mode": "source.resize",
}  # fmt: skip
"""What people and other programs call a field -> its place."""
TYPED = ("prompt.text", "prompt.negative")
"""Places of what people type, of which gaps and styles make other words."""
SIZE = "size"
"""Width and height in one, as in `96x64`; one number is both."""
_INDEXED = re.compile(r"adapters\.(\d+)\.(\w+)")
_SIDES = re.compile(r"\s*([0-9]{1,9})(?:\s*[x×,]\s*([0-9]{1,9}))?\s*", re.IGNORECASE)


def names() -> list[str]:
    """Every name by which a field may be called, the short ones before the places."""
    return [SIZE, *ALIASES, *_short(), *_kinds()]


def place_of(name: str) -> str:
    """The place of a field, `sampling.guidance_scale` for `cfg`. Raises `UsageError` for none, with the nearest."""
    plain = plain_name(name)
    if plain == SIZE or plain.startswith("prompt:"):
        return plain
    place = ALIASES.get(plain) or (plain if plain in _kinds() else _short().get(plain, plain))
    indexed = _INDEXED.fullmatch(place)
    if indexed and indexed[2] in config.types_of(AdapterUse):
        return place
    if place in _kinds() or place.startswith("options."):
        return place
    raise unknown("field of a request", name, names())


def kind_of(name: str) -> Any:
    """The type of the field called `name`; a text where the name is no field's, or its values are of many kinds."""
    try:
        place = place_of(name)
    except UsageError:
        return str
    indexed = _INDEXED.fullmatch(place)
    return config.types_of(AdapterUse)[indexed[2]] if indexed else _kinds().get(place, str)


def plain_name(name: str) -> str:
    """A name as it is looked for: `Guidance-Scale` is `guidance_scale`; what is searched in a prompt stays."""
    head, colon, searched = name.strip().partition(":")
    return head.strip().lstrip("-").lower().replace("-", "_").replace(" ", "_") + colon + searched


def with_field(request: Request, name: str, value: Any) -> Request:
    """`request` with another value of one field: of its own type, or a text as a file or a command line has it.

    Raises `UsageError` for a name that no field has, and for a value of another type.
    """
    place = place_of(name)
    if place in TYPED:  # what was typed has become other words
        styles = () if place == TYPED[0] else request.prompt.styles
        request = replace(request, prompt=replace(request.prompt, written="", written_negative="", styles=styles))
    if place.startswith("prompt:"):
        return replaced(request, place.partition(":")[2], str(value))
    if place == SIZE:
        return _sized(request, ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value))
    plain = {name: part for name, part in request.to_dict().items() if name != "version"}
    if place.startswith("options."):
        plain["options"] = {**plain["options"], place.partition(".")[2]: str(value)}
    else:
        kind = kind_of(place)
        told = from_text(kind, value) if isinstance(value, str) else _own_type(kind, value)
        _put(plain, place, told)
    return Request.from_dict(plain, words=True)


def in_order(names: Iterable[str]) -> list[str]:
    """Names as they must be set: words before what is told of them, a picture to start from and its mask before their
    numbers, search and replace last.
    """
    first = [*TYPED, *(f"source.{field}" for field in beginnings())]

    def rank(name: str) -> int:
        plain = plain_name(name)
        place = ALIASES.get(plain) or _short().get(plain, plain)
        return first.index(place) if place in first else len(first) + plain.startswith("prompt:")

    return sorted(names, key=rank)


def replaced(request: Request, old: str, new: str) -> Request:
    """`request` with `new` for `old` in what should and what should not be seen. Raises `UsageError` where it is not.

    As the axis "Prompt S/R" of other programs.
    """
    told = request.prompt
    if not old or old not in told.text + "\0" + told.negative:
        raise UsageError(
            f"{old!r} is to be replaced, but is in neither prompt: {told.text!r}. Search for words as they "
            "stand there, capitals too."
        )
    new_words = told.text.replace(old, new), told.negative.replace(old, new)
    prompt = replace(told, text=new_words[0], negative=new_words[1], written="", written_negative="")
    return replace(request, prompt=prompt)  # what was typed has become other words


def files_of(request: Request) -> Iterator[str]:
    """The files and folders that must be there for a request: pictures, masks, weights."""
    begun = request.source.files() if request.source else ()
    of_adapters = (path for use in request.adapters for path in (use.path, use.image, use.encoder))
    yield from filter(None, (*begun, *of_adapters))


def sides_of(words: str, *, square: bool = True) -> tuple[int, int] | None:
    """Width and height of `96x64` or `96,64`; None for words that say none. `square`: one number is both."""
    sides = _SIDES.fullmatch(words)
    if sides is None or not (square or sides[2]):
        return None
    return int(sides[1]), int(sides[2] or sides[1])


def _sized(request: Request, words: str) -> Request:
    sides = sides_of(words)
    if sides is None:
        raise UsageError(f"'size' must be width and height in pixels, such as 96x64, but {words!r} was found.")
    return replace(request, canvas=replace(request.canvas, width=sides[0], height=sides[1]))


def _put(plain: dict[str, Any], place: str, value: Any) -> None:
    """Writes a value at its place in the plain form of a request; what it is a part of must be there."""
    *parents, last = place.split(".")
    if parents == ["source"]:
        plain["source"] = _source(plain["source"], last)
    table: Any = plain
    for parent in parents:
        if parent.isdecimal():
            if int(parent) >= len(table):
                raise UsageError(
                    f"{place!r} is about adapter {parent}, counted from 0, but the request has {len(table)} of them. "
                    "Name one with --lora or --control, or leave this out."
                )
            table = table[int(parent)]
            continue
        if table.get(parent) is None:
            table[parent] = {}
        table = table[parent]
    table[last] = value


def _source(plain: dict[str, Any] | None, field: str) -> dict[str, Any]:
    """The plain form of the source of which `field` is said: of another kind, where that makes it one."""
    told = plain or {}
    kind = kind_after(told.get(config.KIND), field)
    if kind is not None:  # each has a usual strength of its own
        kept = config.types_of(kind).keys() - {"strength"}
        return {config.KIND: kind.__name__, **{name: value for name, value in told.items() if name in kept}}
    if plain is None:
        raise UsageError(f"'source.{field}' is about a picture to start from, and there is none: name it as 'image'.")
    return plain


def _own_type(kind: Any, value: Any) -> Any:
    """Whole numbers that JSON or a table wrote as 20.0 are whole; the path of a file is a text."""
    if isinstance(value, Path) and str in config.members(kind):
        return str(value)
    whole = isinstance(value, float) and math.isfinite(value) and value == int(value)
    return int(value) if whole and int in config.members(kind) and float not in config.members(kind) else value


@cache
def _kinds() -> dict[str, Any]:
    """Place -> type, of all fields that hold a value and not a table."""
    found = {flag.name: flag.kind for flag in flags(Request)}
    tables = {name for name, kind in found.items() if config.records(kind)} | {"options", "adapters"}
    return {name: kind for name, kind in found.items() if name not in tables}


@cache
def _short() -> dict[str, str]:
    """Last name -> place; of two with one name that of the first part of the record."""
    return {place.rpartition(".")[2]: place for place in reversed(list(_kinds()))}
