"""What a call in Python asks for: words or a request, and whatever else of it by the names that people give it.

    hv.generate("a {red|blue} fox", steps=20, cfg=5, negative="rain", sampler="Euler a", width=96, count=2)
    hv.generate("a fox", lora={"style.safetensors": 0.8}, image="photo.png", mask="hole.png", refine=Refine(2.0))

`generate`, rows of `batch` and grids read their names here: fields of the request (`core.request_fields`), parts of it
whole, and what `recipes.beside` finds files for. Book: the three walks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, final

from huggingvis.codecs.prompt_filling import Filling
from huggingvis.codecs.prompt_styles import read_styles
from huggingvis.codecs.prompt_templates import Wildcards
from huggingvis.core import config
from huggingvis.core.errors import UsageError, unknown
from huggingvis.core.request import Prompt, Request
from huggingvis.core.request_fields import TYPED, in_order, names, place_of, with_field
from huggingvis.recipes.batching import Row
from huggingvis.recipes.beside import Beside, each
from huggingvis.recipes.models import Wishes

TABLES = tuple(config.types_of(Request))
"""Parts of a request that may be said whole."""
_BESIDE = tuple(field.name for field in fields(Beside))
_GAPS = ("wildcards", "style", "styles")
_OPTIONS = "set"
BESIDE = (*_BESIDE, *_GAPS, _OPTIONS)
"""What is named beside fields of the request; None names nothing."""
_LOADING = tuple(field.name for field in fields(Wishes))
_PICTURES = ("source.path", "source.mask")


@final
@dataclass(frozen=True)
class Asked:
    """What values by name ask for: the `request`, whose gaps are still in it if its words were `typed`."""

    request: Request
    model: str | None
    typed: bool


def opened(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a row, with those of a whole `request` in it, as a program's record of a picture has one."""
    told = dict(values)
    whole = told.pop("request", {})
    if not isinstance(whole, Mapping):
        raise UsageError(f"`request` must be a table of a request's fields, but {whole!r:.80} was found.")
    return {name: value for name, value in {**told, **whole}.items() if name != "version"}


def asked_of(values: Mapping[str, Any], base: Request | None = None) -> Asked:
    """What `values` by name ask for on top of `base`: fields of the request, parts of it whole, `model`.

    A seed of -1 is drawn. Raises `UsageError` for a name that is none, with the nearest, and for a value of another
    type, `FileProblem`.
    """
    told = dict(values)
    model = told.pop("model", None)
    tables = {name: told.pop(name) for name in TABLES if name in told and is_table(told[name])}
    for name in told:
        _check(name, told[name])
    typed = bool(_named(told, tables) & {*TYPED})
    request = Request() if base is None else base.typed()
    if typed:  # of what a record tells of its words nothing holds for others
        request = replace(request, prompt=Prompt(request.prompt.text, request.prompt.negative, request.prompt.emphasis))
    request = Request.from_dict(tables, base=request)
    for name in in_order(told):
        request = with_field(request, name, told[name])
    drawn = request.prompt.written or request.prompt.written_negative
    return Asked(request.with_seeds(), None if model is None else str(model), typed and not drawn)


def rows_asked(values: Mapping[str, Any], base: Request | None = None, number: int = 1) -> list[Row]:
    """The rows of `values`, as of `asked_of`, with their adapters: several where its pictures draw words of their own.

    `style` names styles of the table `styles`, `wildcards` the folder whose lists fill `__name__`, `set` options; None
    names nothing. Raises as `asked_of`.
    """
    told = opened(values)
    named = {name: told.pop(name) for name in _BESIDE if name in told}
    filling = _filling(*(told.pop(name, None) for name in _GAPS))
    told |= {f"options.{name}": word for name, word in map(_option, each(told.pop(_OPTIONS, None)))}
    asked = asked_of(told, base)
    request = Beside(**{name: value for name, value in named.items() if value is not None}).added(asked.request)
    if not asked.typed and not filling.styles:
        return [Row(request, number, asked.model)]
    notes = filling.notes(request.prompt, "wildcards=FOLDER")
    return [Row(one, number, asked.model, notes) for one in filling.filled(request)]


def _filling(wildcards: Any, style: Any, styles: Any) -> Filling:
    """What is put around prompts and into their gaps."""
    if wildcards is not None and not isinstance(wildcards, str | Path):
        raise UsageError(f"`wildcards` is a folder of lists such as colour.txt, but {wildcards!r:.80} was found.")
    if styles is not None and not isinstance(styles, str | Path):
        raise UsageError(
            "`styles` is the file of a table of styles, as styles.csv. The style itself is called `style`."
        )
    lists, chosen = None if wildcards is None else Wildcards(Path(wildcards)), tuple(map(str, each(style)))
    if not chosen:
        return Filling(lists)
    if styles is None:
        raise UsageError(f"The style {chosen[0]!r} is in a table of styles: name its file too (styles='styles.csv').")
    return Filling(lists, chosen, read_styles(Path(styles)))


def _option(word: Any) -> tuple[str, str]:
    name, _, value = word.partition("=") if isinstance(word, str) else ("", "", "")
    if not name or not value:
        raise UsageError(
            f"`set` takes a name and a value, as in database=mnist, or several of them; found {word!r:.80}. A table of "
            "them is called `options`."
        )
    return name, value


def is_table(value: Any) -> bool:
    """Whether a value is a part of a request, and not what a name alone says of it."""
    return value is None or isinstance(value, Mapping | list | tuple) or is_dataclass(value)


def _named(told: Mapping[str, Any], tables: Mapping[str, Any]) -> set[str]:
    """Places of all fields that are said, alone or in a table."""
    places = {*map(place_of, told)}
    for table, part in tables.items():
        inside: Iterable[Any] = [field.name for field in fields(part)] if is_dataclass(part) else part or ()
        places |= {f"{table}.{name}" for name in inside}
    return places


def _inside(table: str) -> str:
    """The names of its fields."""
    return ", ".join(place for place in names() if place.startswith(f"{table}.")) or f"{table}.NAME"


def _check(name: str, value: Any) -> None:
    """Raises `UsageError` for no name, and for a picture that is no file."""
    if name in _LOADING:
        raise UsageError(f"`{name}` says how models are loaded, for all rows: say it to the batch or grid itself.")
    try:
        place = place_of(name)
    except UsageError:
        if name in TABLES:
            raise UsageError(
                f"`{name}` is a part of a request, a record or a table of its fields, but {value!r:.80} was found. One "
                f"field of it is said alone by its own name: {_inside(name)}."
            ) from None
        raise unknown("field of a request", name, ["model", *names(), *BESIDE]) from None
    if place in _PICTURES and not isinstance(value, str | Path):
        raise UsageError(
            f"`{name}` must be the path of a picture file, found a {type(value).__name__}. Save the picture first "
            "(hv.export), so that what is made of it can be made again."
        )
