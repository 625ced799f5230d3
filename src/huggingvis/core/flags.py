"""The command-line form of a configuration: `--steps 20 --optim.lr 1e-3 --no-flip --sizes 1,2,3 --clip none`.

Every field of a dataclass (see `core.config`) is a flag; nested records have dotted names, `-` and `_` are the same.
A truth value needs no word (`--flip`, `--no-flip`), lists are separated by commas, and a value that begins with `[`
or `{` is read as TOML. Where a field allows several records, their name chooses: `--process Flow --process.shift 3`.

Help is taken from the source: a field's meaning is the `#:` comment at its line's end or on the lines above it, or its
entry in the `Attributes:` section of the docstring.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import textwrap
import tokenize
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from huggingvis.core import config
from huggingvis.core.errors import UsageError, unknown

T = TypeVar("T")
_TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_ATTRIBUTE = re.compile(r"(\w+): (.+)")
_METAVARS = {bool: "BOOL", int: "N", float: "X", str: "TEXT", Path: "PATH", type(None): "none"}


@dataclass(frozen=True)
class Flag:
    """One flag: `name` as `optim.lr`, its type, the value it has when not given (or MISSING), what it means."""

    name: str
    kind: Any
    default: Any
    help: str

    @property
    def truth(self) -> bool:
        """Whether the flag may stand without a value."""
        return bool in config.members(self.kind)

    @property
    def option(self) -> str:
        """As it stands on a command line: `--optim.lr`, `--guidance-scale`."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def takes(self) -> str:
        """What its value is, in a word."""
        return _metavar(self.kind)

    @property
    def meaning(self) -> str:
        """What it means, and the value it has when not given."""
        if self.default is MISSING:
            return f"{self.help} (required)".strip()
        if config.records(self.kind):
            return self.help
        return f"{self.help} (default {_shown(self.default)})".strip()


def flags(cls: type, *, base: Any = None) -> tuple[Flag, ...]:
    """All flags of a dataclass, nested ones after their parent; `base` gives the defaults, if there is one."""
    return tuple(_walk(cls, base, ""))


def parse(cls: type[T], words: Sequence[str], *, base: T | None = None) -> T:
    """The dataclass that the words of a command line describe, starting from `base` or the defaults.

    Raises `UsageError` for an unknown flag (with the nearest), a missing value, a value of the wrong type.
    """
    known = {flag.name: flag for flag in flags(cls, base=base)}
    tree: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or word == "--":
            raise UsageError(f"Expected a flag such as --{next(iter(known), 'help')}, found {word!r}.")
        name, equals, text = word[2:].partition("=")
        flag, positive = _match(name, known)
        if not positive and equals:
            raise UsageError(f"--{name} takes no value; write --{flag.name}={text} instead.")
        if not equals and positive and not (flag.truth and not (rest and rest[0].lower() in _TRUTH)):
            if not rest or rest[0].startswith("--"):
                raise UsageError(f"--{flag.name} needs a value: {config.describe(flag.kind)}.")
            equals, text = "=", rest.pop(0)
        _put(tree, flag, from_text(flag.kind, text) if equals else positive)
    return config.from_words(cls, tree, base=base, owner="")


@cache
def meanings(cls: type) -> Mapping[str, str]:
    """What each field of a dataclass means, inherited ones included; empty where neither source nor docstring says."""
    found: dict[str, str] = {}
    for owner in reversed(cls.__mro__[:-1]):
        found.update(_attributes_in(inspect.cleandoc(vars(owner).get("__doc__") or "")))
        try:
            source = textwrap.dedent(inspect.getsource(owner))
        except (OSError, TypeError):
            continue
        found.update(_meanings_in(source))
    return found


def _attributes_in(doc: str) -> Iterator[tuple[str, str]]:
    """The entries of a docstring's `Attributes:` section; an entry's further lines are indented below it."""
    section = re.search(r"^Attributes:\n((?:[ \t]+.*\n?|\n)+)", doc, re.MULTILINE)
    if section is None:
        return
    for entry in re.split(r"\n(?=\S)", textwrap.dedent(section[1]).strip()):
        named = _ATTRIBUTE.fullmatch(" ".join(entry.split()))
        if named is not None:
            yield named[1], named[2]


def _meanings_in(source: str) -> Iterator[tuple[str, str]]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {t.start[0]: t for t in tokens if t.type == tokenize.COMMENT and t.string.startswith("#:")}
    alone = {row for row, token in comments.items() if not token.line[: token.start[1]].strip()}
    body = ast.parse(source).body[0]
    for node in body.body if isinstance(body, ast.ClassDef) else ():
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        above = node.lineno
        while above - 1 in alone:
            above -= 1
        rows = [*range(above, node.lineno), *(row for row in range(node.lineno, (node.end_lineno or 0) + 1))]
        text = " ".join(comments[row].string[2:].strip() for row in rows if row in comments)
        if text:
            yield node.target.id, text


def from_text(kind: Any, text: str) -> Any:
    """The plain value a word of the command line stands for; a word that does not fit stays a text, to be explained."""
    options = config.members(kind)
    if text in (record.__name__ for record in config.records(kind)):
        return {config.KIND: text}
    if len(options) > 1:
        for option in sorted(options, key=lambda o: o in (str, Path, Any)):  # a text fits anything: try it last
            value = from_text(option, text)
            if config.fits(option, value):
                return value
        return text
    if config.records(kind) or text[:1] in ("[", "{"):
        return _from_toml_or_name(kind, text)
    if get_origin(kind) is Literal:
        return next((option for option in get_args(kind) if str(option) == text), text)
    if get_origin(kind) is tuple:
        args = get_args(kind)
        parts = text.split(",") if text else []
        return [from_text(args[min(i, len(args) - 1)] if args[-1] is not ... else args[0], p.strip())
                for i, p in enumerate(parts)]  # fmt: skip
    if kind is bool:
        return _TRUTH.get(text.lower(), text)
    try:
        return kind(text) if kind in (int, float) else text
    except ValueError:
        return text


def _from_toml_or_name(kind: Any, text: str) -> Any:
    if text[:1] not in ("[", "{"):
        return {config.KIND: text}
    if kind in (str, Path):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError) as error:
        raise UsageError(f"Expected a value in TOML's notation, but {text!r} does not parse: {error}.") from error


def _walk(cls: type, base: Any, prefix: str) -> Iterator[Flag]:
    kinds, help_of = config.types_of(cls), meanings(cls)
    for field in fields(cls):
        if not field.init:
            continue
        default = config.default_of(field) if base is None else getattr(base, field.name)
        kind, name = kinds[field.name], prefix + field.name
        yield Flag(name, kind, default, help_of.get(field.name, ""))
        seen: set[str] = set()
        for record in config.records(kind):
            for flag in _walk(record, default if isinstance(default, record) else None, f"{name}."):
                if flag.name not in seen:
                    seen.add(flag.name)
                    yield flag


def _match(name: str, known: Mapping[str, Flag]) -> tuple[Flag, bool]:
    plain = name.replace("-", "_")
    if plain in known:
        return known[plain], True
    if plain.startswith("no_") and plain[3:] in known and known[plain[3:]].truth:
        return known[plain[3:]], False
    parent, _, key = plain.rpartition(".")
    if parent in known:
        for option in config.members(known[parent].kind):
            if get_origin(option) in config.MAPPINGS:
                return Flag(f"{parent}.{key}", get_args(option)[1], MISSING, ""), True
    raise unknown("flag", f"--{name}", [f"--{flag}" for flag in known])


def _put(tree: dict[str, Any], flag: Flag, value: Any) -> None:
    *path, last = flag.name.split(".")
    for key in path:
        inner = tree.setdefault(key, {})
        if not isinstance(inner, dict):
            raise UsageError(f"--{flag.name} cannot be set together with --{key} {inner}.")
        tree = inner
    before = tree.get(last)
    tree[last] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value


def _metavar(kind: Any) -> str:
    options = config.members(kind)
    if len(options) > 1:
        return "|".join(dict.fromkeys(_metavar(option) for option in options))
    if get_origin(kind) is Literal:
        return "|".join(str(option) for option in get_args(kind))
    if get_origin(kind) is tuple:
        return f"{_metavar(get_args(kind)[0])},…"
    return _METAVARS.get(kind, kind.__name__ if config.records(kind) else "TOML")


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(_shown(item) for item in value) or "empty"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return repr(value) if isinstance(value, str) else str(value)
