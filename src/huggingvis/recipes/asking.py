"""What a call in Python asks for: words or a request, and whatever else of it by the names that people give it.

    hv.generate("a {red|blue} fox", steps=20, cfg=5, negative="rain", sampler="Euler a", width=96, count=2)
    hv.generate("a fox", lora={"style.safetensors": 0.8}, image="photo.png", mask="hole.png", refine=Refine(2.0))

`generate`, rows of `batch` and grids read their names here: fields of the request (`core.request_fields`), parts of it
whole, and what `recipes.beside` finds files for. Book: the three walks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from huggingvis.codecs.prompt_filling import Filling
from huggingvis.codecs.prompt_templates import Wildcards
from huggingvis.core import config
from huggingvis.core.errors import UsageError, unknown
from huggingvis.core.request import Prompt, Request
from huggingvis.core.request_fields import TYPED, in_order, names, place_of, with_field
from huggingvis.recipes.batching import Row
from huggingvis.recipes.beside import Beside

WILDCARDS = "wildcards"
"""The name of the folder whose lists fill `__name__`."""
_TABLES = tuple(config.types_of(Request))
_BESIDE = tuple(field.name for field in fields(Beside))
_PICTURES = ("source.path", "source.mask")


def rows_asked(values: Mapping[str, Any], base: Request | None = None, number: int = 1) -> list[Row]:
    """The rows of `values` by name, on top of `base`: several where its pictures draw words of their own.

    Raises `UsageError` for a name that is none, with the nearest, and for a value of another type, `FileProblem`.
    """
    told = dict(values)
    told.pop("version", None)
    model = told.pop("model", None)
    lists = told.pop(WILDCARDS, None)
    beside = Beside(**{name: told.pop(name) for name in _BESIDE if name in told})
    tables = {name: told.pop(name) for name in _TABLES if name in told and _is_table(told[name])}
    for name in told:
        _check(name, told[name])
    typed = _named(told, tables) & {*TYPED}
    request = base or Request()
    if typed:  # of what a record tells of its words nothing holds for others
        request = replace(request, prompt=Prompt(request.prompt.text, request.prompt.negative, request.prompt.emphasis))
    request = Request.from_dict(tables, base=request)
    for name in in_order(told):
        request = with_field(request, name, told[name])
    request = beside.added(request).with_seeds()
    if not typed or request.prompt.written or request.prompt.written_negative:
        return [Row(request, number, model)]  # its words are drawn already
    filling = Filling(None if lists is None else Wildcards(Path(lists)))
    return [Row(one, number, model) for one in filling.filled(request)]


def notes_asked(values: Mapping[str, Any], prompt: Prompt) -> tuple[str, ...]:
    """What of a typed prompt is read as letters, though it may be meant as a gap."""
    lists = values.get(WILDCARDS)
    filling = Filling(None if lists is None else Wildcards(Path(lists)))
    return filling.notes(prompt, "wildcards=FOLDER")


def _is_table(value: Any) -> bool:
    return value is None or isinstance(value, Mapping | list | tuple) or is_dataclass(value)


def _named(told: Mapping[str, Any], tables: Mapping[str, Any]) -> set[str]:
    """Places of all fields that are said, alone or in a table."""
    inside = ((table, [field.name for field in fields(told)] if is_dataclass(told) else told)
              for table, told in tables.items() if told is not None)  # fmt: skip
    return {*map(place_of, told), *(f"{table}.{name}" for table, names in inside for name in names)}


def _check(name: str, value: Any) -> None:
    """Raises `UsageError` for no name, and for a picture that is no file."""
    try:
        place = place_of(name)
    except UsageError:
        raise unknown("field of a request", name, [*names(), *_BESIDE, WILDCARDS]) from None
    if place in _PICTURES and not isinstance(value, str | Path):
        raise UsageError(
            f"`{name}` must be the path of a picture file, found a {type(value).__name__}. Save the picture first "
            "(hv.export), so that what is made of it can be made again."
        )
