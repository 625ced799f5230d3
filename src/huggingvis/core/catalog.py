"""The catalogue: what is in the library, read from its source without importing any of it.

One file of an axis is one paper or one family of close ones. Its entries are its public final classes and functions:
names without a leading underscore (or those of `__all__`), abstract classes and protocols left out. A module-level
literal `ALIASES = {"dpm++2m": "DPMSolver"}` gives an entry further names. Docstrings give the rest: the first
paragraph, the arXiv ids, and the book chapter, written as `chapter 4` or `Book chapter: sampling`.

A system (one named method that people ask for) is declared where its heart is, in its recipe, in its file of another
axis (a sampler, a guidance) or in what binds it (systems/, edits/), in a module-level literal, a list of them for a
file that several share:

    SYSTEM = {
        "name": "DDIM", "chapter": 4, "paper": "2010.02502", "files": ["samplers/_levels.py"],
        "exact": ["tests/oracle/test_ddim.py::test_order", "tests/interop/test_ddim.py::test_it_is_theirs"],
        "trained": "benchmarks/results/ddim.json",
    }

Each of the five marks is None (or absent), its proof or a list of its proofs: `built`, `exact` and `usable` name tests
(or result files), `trained` JSON results, `explained` pages. So adding a method is adding a file, and a claim has its
evidence.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from huggingvis.core import config
from huggingvis.core.errors import HvisError, UsageError, unknown

AXES = ("nets", "processes", "guidance", "samplers", "adapters", "codecs", "scenes", "objectives", "metrics",
        "recipes", "data")  # fmt: skip
DECLARING = (*AXES, "edits", "systems")
MARKS = ("built", "exact", "trained", "explained", "usable")
ROOT = Path(__file__).resolve().parents[1]

ARXIV = re.compile(r"(?<![\d.])(?:0[7-9]|[1-9]\d)(?:0[1-9]|1[0-2])\.\d{4,5}(?!\d)")
_CHAPTER = re.compile(r"\bchapter\b:?\s+`?([\w/-]+)", re.IGNORECASE)
_ABSTRACT = {"ABC", "ABCMeta", "Protocol", "abstractmethod"}


@dataclass(frozen=True)
class Entry:
    """One public class or function of an axis."""

    axis: str
    name: str
    kind: Literal["class", "function"]
    module: str
    line: int
    doc: str
    arxiv: tuple[str, ...] = ()
    chapter: str | None = None
    aliases: tuple[str, ...] = ()

    def load(self) -> Any:
        """The object itself; imports its module."""
        return getattr(importlib.import_module(self.module), self.name)


@dataclass(frozen=True)
class Recipe:
    """One file under `recipes/`: a named method that can be run. `chapter` is its folder."""

    name: str
    chapter: str
    module: str
    doc: str

    def load(self) -> Any:
        """The module, with its `Config`; imports it."""
        return importlib.import_module(self.module)


@dataclass(frozen=True)
class SystemRecord:
    """What the library says of one system, and the proofs of each mark. `files` are relative to the package."""

    name: str
    chapter: str
    paper: str | None = None
    files: tuple[str, ...] = ()
    built: tuple[str, ...] = ()
    exact: tuple[str, ...] = ()
    trained: tuple[str, ...] = ()
    explained: tuple[str, ...] = ()
    usable: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The record as `hvis catalog --json` gives it."""
        return config.to_dict(self)

    def marks(self) -> dict[str, tuple[str, ...]]:
        """The five marks and their proofs, in order; none where a mark is not claimed."""
        return {mark: getattr(self, mark) for mark in MARKS}


def entries(axis: str | None = None, *, root: Path = ROOT) -> tuple[Entry, ...]:
    """Every entry of an axis, or of all, in the order of folders and files. Raises `UsageError` for an unknown axis."""
    if axis is not None and axis not in AXES:
        raise unknown("axis", axis, AXES)
    return tuple(entry for name in AXES if axis in (None, name) for entry in _axis_entries(root, name))


def names(axis: str, *, root: Path = ROOT) -> tuple[str, ...]:
    """The names by which `find` knows the entries of an axis: aliases where an entry has some, else its own name."""
    return tuple(name for entry in entries(axis, root=root) for name in (entry.aliases or (entry.name,)))


def find(axis: str, name: str, *, root: Path = ROOT) -> Any:
    """The object called `name` (its own name, an alias, or `file.Name`; case, `-` and `_` do not matter), imported now.

    Raises `UsageError` for an unknown name (with the nearest) and for one that several files share.
    """
    table: dict[str, list[Entry]] = {}
    for entry in entries(axis, root=root):
        stem = entry.module.rpartition(".")[2]
        for known in {entry.name, f"{stem}.{entry.name}", *entry.aliases}:
            table.setdefault(known, []).append(entry)
    found = table.get(name) or [e for known, held in table.items() if _fold(known) == _fold(name) for e in held]
    found = list(dict.fromkeys(found))
    if not found:
        raise unknown(f"entry of {axis}", name, [known for known in table if "." not in known or known in name])
    if len(found) > 1:
        several = ", ".join(f"{entry.module.rpartition('.')[2]}.{entry.name}" for entry in found)
        raise UsageError(f"{name!r} in {axis} could be any of {several}; give one of these names.")
    return found[0].load()


def recipes(*, root: Path = ROOT) -> dict[str, Recipe]:
    """Every recipe by its name, which is its file's."""
    found: dict[str, Recipe] = {}
    for path in _files(root, "recipes"):
        if path.parent == root / "recipes":
            continue  # shared by recipes, not itself one
        recipe = Recipe(path.stem, path.parent.name, _module(root, path), _summary(path, _text(path)))
        if recipe.name in found:
            raise HvisError(f"Two recipes are called {recipe.name!r}: {found[recipe.name].module}, {recipe.module}.")
        found[recipe.name] = recipe
    return found


def find_recipe(name: str, *, root: Path = ROOT) -> Any:
    """The module of a recipe (`-` and `_` do not matter), imported now. Raises `UsageError` with the nearest name."""
    known = recipes(root=root)
    for recipe in known.values():
        if _fold(recipe.name) == _fold(name):
            return recipe.load()
    raise unknown("recipe", name, known)


def systems(chapter: int | str | None = None, *, root: Path = ROOT) -> tuple[SystemRecord, ...]:
    """Every system that files declare, or those of one `chapter`, by chapter and name.

    Raises `HvisError` naming a file whose record is wrong.
    """
    found = [record for part in DECLARING for path in _files(root, part) for record in _system(root, path)]
    wanted = [record for record in found if chapter is None or record.chapter.lower() == str(chapter).lower()]
    return tuple(sorted(wanted, key=lambda record: (record.chapter.zfill(4), record.name.lower())))


def _system(root: Path, path: Path) -> Iterator[SystemRecord]:
    """The systems that a file declares, if it declares any."""
    here = path.relative_to(root).as_posix()
    try:
        text = _text(path)
        records = _declared(path, text) if "SYSTEM" in text else ()  # few have one
    except HvisError as error:
        raise HvisError(f"SYSTEM in {here}: {error}") from error
    for record in records:
        yield replace(record, files=(here, *(file for file in record.files if file != here)))


@cache
def _declared(path: Path, text: str) -> tuple[SystemRecord, ...]:
    literal = _literal(_parsed(path, text), "SYSTEM")
    if literal is None:
        return ()
    literals = literal if isinstance(literal, list) and literal else [literal]
    return tuple(config.from_dict(SystemRecord, _plain(one)) for one in literals)


@cache
def _summary(path: Path, text: str) -> str:
    """The first paragraph of a file. Parsing all recipes takes a quarter of a second, and many commands ask for one."""
    return _head(_docstring(_parsed(path, text)))


def _plain(literal: Any) -> Any:
    return {k: _several(k, v) for k, v in literal.items()} if isinstance(literal, dict) else literal


def _several(key: str, value: Any) -> Any:
    """A mark's proofs as a list, whether there is none, one or a list of them; a chapter's number as text."""
    if key in MARKS and not isinstance(value, list):
        return [] if value is None else [value]
    return str(value) if key == "chapter" and isinstance(value, int) else value


@cache
def _axis_entries(root: Path, axis: str) -> tuple[Entry, ...]:
    return tuple(entry for path in _files(root, axis) for entry in _file_entries(root, axis, path))


def _files(root: Path, axis: str) -> list[Path]:
    return sorted(path for path in (root / axis).rglob("*.py") if not path.name.startswith("_"))


def _file_entries(root: Path, axis: str, path: Path) -> Iterator[Entry]:
    tree = _parsed(path, _text(path))
    text = _docstring(tree)
    public = _literal(tree, "__all__")
    aliases = _literal(tree, "ALIASES") or {}
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef) or _abstract(node):
            continue
        if node.name.startswith("_") or (public is not None and node.name not in public):
            continue
        own = ast.get_docstring(node) or ""
        chapter = _CHAPTER.search(own) or _CHAPTER.search(text)
        yield Entry(
            axis=axis,
            name=node.name,
            kind="class" if isinstance(node, ast.ClassDef) else "function",
            module=_module(root, path),
            line=node.lineno,
            doc=_head(own or text),
            arxiv=tuple(dict.fromkeys(ARXIV.findall(own) or ARXIV.findall(text))),
            chapter=chapter.group(1) if chapter else None,
            aliases=tuple(alias for alias, name in aliases.items() if name == node.name),
        )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _parsed(path: Path, text: str) -> ast.Module:
    try:
        return ast.parse(text, filename=str(path))
    except (SyntaxError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> HvisError:
    return HvisError(f"The library's own file {path} cannot be read as Python: {error}. Reinstall it.")


def _abstract(node: ast.ClassDef | ast.FunctionDef) -> bool:
    """Whether a class is a base to build on: it derives from ABC or Protocol itself, or leaves a method abstract."""
    if isinstance(node, ast.FunctionDef):
        return False
    methods = [part for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)]
    parents = [*node.bases, *(keyword.value for keyword in node.keywords)]
    decorators = [mark for method in methods for mark in method.decorator_list]
    return any(_last_name(mark) in _ABSTRACT for mark in parents + decorators)


def _last_name(node: ast.expr) -> str:
    while isinstance(node, ast.Subscript | ast.Call):
        node = node.value if isinstance(node, ast.Subscript) else node.func
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _literal(tree: ast.Module, name: str) -> Any:
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            try:
                return ast.literal_eval(node.value)
            except ValueError as error:
                raise HvisError(f"{name} must be a plain literal, for it is read without running the file.") from error
    return None


def _docstring(tree: ast.Module) -> str:
    return ast.get_docstring(tree) or ""


def _head(text: str) -> str:
    return " ".join(text.split("\n\n", 1)[0].split())


def _module(root: Path, path: Path) -> str:
    return ".".join([root.name, *path.relative_to(root).with_suffix("").parts])


def _fold(name: str) -> str:
    return name.lower().replace("_", "-")
