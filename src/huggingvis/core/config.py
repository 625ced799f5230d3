"""Configuration: a frozen dataclass is a plain dict, a TOML file and (in `core.flags`) a command line.

A configuration is written once, as a dataclass whose fields say their type, default and meaning:

    @dataclass(frozen=True)
    class Config:
        steps: int = 1000                          #: optimiser steps
        optim: Adam = Adam()                       #: nested records are tables in TOML, dotted flags in a command line
        process: VP | Flow = VP()                  #: a choice of records is told by the key `kind`
        clip: float | None = 1.0                   #: in TOML and flags, the word `none` stands for None

Fields may be bool, int, float, str, Path, None, Any, Literal, tuples, mappings from text, other dataclasses, and
unions of these. A key that is missing takes the value of `base`, or else the field's default; a nested table changes
only the fields it names. Reading checks every type and explains what is wrong by the field's dotted name.
"""

from __future__ import annotations

import collections.abc
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from huggingvis.core import files
from huggingvis.core.errors import FileProblem, HvisError, UsageError, unknown

T = TypeVar("T")
KIND = "kind"  # the key that tells which record a table is, where a field allows several
NONE = "none"  # the word for None in texts that have no null
MAPPINGS = (dict, Mapping, collections.abc.Mapping)
_hints = cache(typing.get_type_hints)  # every record that is read asks for those of its fields


def to_dict(config: Any) -> dict[str, Any]:
    """The plain form of a dataclass: dicts, lists, texts, numbers, None. Ready for `json.dumps`."""
    return _plain(config, type(config), words=False)


def from_dict(cls: type[T], data: Mapping[str, Any], *, base: T | None = None) -> T:
    """The dataclass that `data` describes; missing keys come from `base` or the defaults.

    Raises `UsageError` for an unknown key (with the nearest), a wrong type (with the field and what it allows) or a
    missing required field.
    """
    return _record(cls, data, _Place("", cls.__name__, words=False), base)


def to_toml(config: Any) -> str:
    """The TOML text of a dataclass. Every field is written, so that later changes of defaults do not reach it."""
    import tomli_w

    return tomli_w.dumps(_plain(config, type(config), words=True))


def from_toml(cls: type[T], text: str, *, base: T | None = None) -> T:
    """The dataclass a TOML text describes. Raises `FileProblem` for a text that is no TOML, else as `from_dict`."""
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileProblem(f"Expected a configuration in TOML, but the text does not parse: {error}.") from error
    return from_words(cls, data, base=base)


def from_words(cls: type[T], data: Mapping[str, Any], *, base: T | None = None, owner: str | None = None) -> T:
    """As `from_dict`, for data from texts without a null: the word `none` is None where None is allowed.

    `owner` is what messages call the whole, else the class's name; "" leaves it out.
    """
    return _record(cls, data, _Place("", cls.__name__ if owner is None else owner, words=True), base)


def save(config: Any, path: Path) -> Path:
    """Writes a dataclass as TOML, all or nothing."""
    text = to_toml(config).encode("utf-8")
    return files.write_atomically(path, lambda file: file.write(text))


def load(cls: type[T], path: Path, *, base: T | None = None) -> T:
    """Reads a dataclass from a TOML file. Raises `FileProblem` naming the file if it cannot be read or parsed."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise files.explain(error, path, "read") from error
    except UnicodeDecodeError as error:
        raise FileProblem(f"Expected a TOML file in UTF-8 at {path}, found other bytes: {error.reason}.") from error
    try:
        return from_toml(cls, text, base=base)
    except HvisError as error:
        raise type(error)(f"{path}: {error}") from error


def types_of(cls: type) -> dict[str, Any]:
    """The resolved type of each field that `cls(...)` takes, in order."""
    hints = _hints(cls)
    return {f.name: hints[f.name] for f in fields(cls) if f.init}


def default_of(field: Field[Any]) -> Any:
    """A field's default, or `dataclasses.MISSING`."""
    return field.default_factory() if field.default_factory is not MISSING else field.default


def members(kind: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the type itself."""
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def records(kind: Any) -> tuple[type, ...]:
    """The dataclasses among the alternatives of a type."""
    return tuple(m for m in members(kind) if isinstance(m, type) and is_dataclass(m))


def describe(kind: Any) -> str:
    """What a type allows, in words."""
    simple = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path",
              type(None): NONE, Any: "anything"}  # fmt: skip
    origin, args = get_origin(kind), get_args(kind)
    if kind in simple:
        return simple[kind]
    if len(members(kind)) > 1:
        return " or ".join(describe(m) for m in members(kind))
    if origin is Literal:
        return "one of " + ", ".join(repr(a) for a in args)
    if origin is tuple and args[-1:] == (Ellipsis,):
        return f"a list, each {describe(args[0])}"
    if origin is tuple:
        return f"a list of {len(args)}: " + ", then ".join(describe(a) for a in args)
    if origin in MAPPINGS:
        return f"a table, each {describe(args[1])}"
    return f"a table of {kind.__name__}" if records(kind) else str(kind)


def fits(kind: Any, value: Any) -> bool:
    """Whether a plain value can be read as a type."""
    try:
        _value(kind, value, _Place("", "", words=True))
    except UsageError:
        return False
    return True


@dataclass(frozen=True)
class _Place:
    """Where in the configuration a value stands, for messages; and whether `none` is a word here."""

    path: str
    owner: str
    words: bool

    def child(self, name: str) -> _Place:
        return _Place(f"{self.path}.{name}" if self.path else name, self.owner, self.words)

    def wrong(self, kind: Any, value: Any) -> UsageError:
        found = f"{value!r}" if len(repr(value)) <= 80 else f"{repr(value)[:77]}..."
        if self.path and not self.owner:  # a flag: its user wrote a word and knows no types
            return UsageError(f"{self.path!r} must be {describe(kind)}, but {found} was found.")
        name = f"{self.path!r} of {self.owner}" if self.path else self.owner
        return UsageError(f"{name} must be {describe(kind)}, but {found} ({type(value).__name__}) was found.")


def _value(kind: Any, value: Any, place: _Place, base: Any = None) -> Any:
    origin = get_origin(kind)
    if kind is Any:
        return None if place.words and value == NONE else value
    if len(members(kind)) > 1:
        return _union(kind, value, place, base)
    if records(kind):
        return _record(kind, value, place, base)
    if origin is Literal:
        return _choice(kind, value, place)
    if origin is tuple or kind is tuple:
        return _tuple(kind, value, place)
    if origin in MAPPINGS or kind is dict:
        if not isinstance(value, Mapping):
            raise place.wrong(kind, value)
        inner = get_args(kind)[1] if get_args(kind) else Any
        return {str(key): _value(inner, item, place.child(str(key))) for key, item in value.items()}
    return _simple(kind, value, place)


def _simple(kind: Any, value: Any, place: _Place) -> Any:
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise place.wrong(kind, value) from None
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    if kind is type(None) and value is None:
        return None
    if kind in (bool, int, str) and type(value) is kind:
        return value
    if kind not in (bool, int, float, str, Path, type(None)):
        raise TypeError(f"{place.owner}.{place.path} has the type {kind}, which no configuration can hold")
    raise place.wrong(kind, value)


def _choice(kind: Any, value: Any, place: _Place) -> Any:
    for option in get_args(kind):
        if type(value) is type(option) and value == option:
            return value
    if isinstance(value, str) and all(isinstance(option, str) for option in get_args(kind)):
        raise unknown(f"choice for {place.path!r}", value, get_args(kind))
    raise place.wrong(kind, value)


def _union(kind: Any, value: Any, place: _Place, base: Any) -> Any:
    options, tables = members(kind), records(kind)
    if type(None) in options and (value is None or (place.words and value == NONE)):
        return None
    if isinstance(value, Mapping) and tables:
        names = {cls.__name__: cls for cls in tables}
        told = value.get(KIND)
        if told is not None and (not isinstance(told, str) or told not in names):
            raise unknown(f"kind of {place.path!r}", str(told), names)
        chosen = names[told] if told is not None else tables[0] if len(tables) == 1 else type(base)
        if chosen not in tables:
            where = f"{place.path!r} of {place.owner}" if place.owner else repr(place.path)
            raise UsageError(f"{where} needs a key {KIND!r} that says which: {', '.join(names)}.")
        return _record(chosen, value, place, base)
    if len(options) == 2 and type(None) in options:
        return _value(next(o for o in options if o is not type(None)), value, place, base)
    for option in sorted(options, key=lambda o: type(value) is not o):  # the exact type first: 3 stays whole
        try:
            return _value(option, value, place, base)
        except UsageError:
            continue
    raise place.wrong(kind, value)


def _tuple(kind: Any, value: Any, place: _Place) -> tuple[Any, ...]:
    args = get_args(kind) or (Any, Ellipsis)
    if not isinstance(value, list | tuple):
        raise place.wrong(kind, value)
    if args[-1] is Ellipsis:
        args = (args[0],) * len(value)
    if len(value) != len(args):
        raise place.wrong(kind, value)
    pairs = zip(args, value, strict=True)
    return tuple(_value(arg, item, place.child(str(i))) for i, (arg, item) in enumerate(pairs))


def _record(cls: type[T], value: Any, place: _Place, base: Any = None) -> T:
    if isinstance(value, cls):
        return value
    if not isinstance(value, Mapping):
        raise place.wrong(cls, value)
    kinds = types_of(cls)
    given = {key: item for key, item in value.items() if key in kinds or (key, item) != (KIND, cls.__name__)}
    for key in given:
        if key not in kinds:
            raise unknown(f"field of {place.path or place.owner or cls.__name__}", str(key), kinds)
    base = base if isinstance(base, cls) else None
    arguments = {}
    for field in fields(cls):  # type: ignore[arg-type]
        if not field.init:
            continue
        before = default_of(field) if base is None else getattr(base, field.name)
        if field.name in given:
            arguments[field.name] = _value(kinds[field.name], given[field.name], place.child(field.name), before)
        elif before is MISSING:
            path = place.child(field.name).path
            owner = place.owner or cls.__name__
            raise UsageError(f"{owner} needs {path!r}: {describe(kinds[field.name])}. It was not given.")
        else:
            arguments[field.name] = before
    try:
        return cls(**arguments)
    except ValueError as error:
        raise UsageError(f"{place.path or place.owner or cls.__name__}: {error}") from error


def _plain(value: Any, kind: Any, words: bool) -> Any:
    if words and (kind is Any or type(None) in members(kind)) and value == NONE:
        raise UsageError(f"The text {NONE!r} would be read back as no value where it stands; choose another text.")
    if value is None:
        return NONE if words else None
    if is_dataclass(value) and not isinstance(value, type):
        kinds = types_of(type(value))
        table = {name: _plain(getattr(value, name), kinds[name], words) for name in kinds}
        return {KIND: type(value).__name__, **table} if len(records(kind)) > 1 else table
    if isinstance(value, Mapping):
        inner = next((get_args(m)[1] for m in members(kind) if get_origin(m) in MAPPINGS), Any)
        return {str(key): _plain(item, inner, words) for key, item in value.items()}
    if isinstance(value, list | tuple):
        args = next((get_args(m) for m in members(kind) if get_origin(m) is tuple), (Any, Ellipsis))
        inner_kinds = (args[0],) * len(value) if args[-1] is Ellipsis else args
        return [_plain(item, inner, words) for inner, item in zip(inner_kinds, value, strict=False)]
    return str(value) if isinstance(value, Path) else value
