"""Which images a folder holds, with their classes and captions, before any is decoded.

Forms: `metadata.jsonl` / `metadata.csv` (the 'imagefolder' convention: `file_name`, `text`), images with same-stem
captions, class sub-folders.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingvis.core.errors import FileProblem
from huggingvis.data.decode import EXTENSIONS

_CAPTIONS = (".txt", ".caption")


@dataclass(frozen=True)
class Item:
    """An image file; `label` is an index into the listing's classes; `problem` is why it cannot be used, or ""."""

    path: Path
    label: int = -1
    caption: str | None = None
    problem: str = ""


@dataclass(frozen=True)
class Listing:
    """The images of a folder in a fixed order. `missing`: files that metadata name and that are not there."""

    items: tuple[Item, ...]
    classes: tuple[str, ...] = ()
    missing: tuple[tuple[Path, str], ...] = ()
    notes: tuple[str, ...] = ()


def list_folder(folder: Path, recursive: bool) -> Listing:
    """What is in `folder`. Raises `FileProblem` if it is missing, empty, or its metadata cannot be read."""
    if not folder.exists():
        raise FileProblem(f"There is no folder {folder}. Check the path.")
    if not folder.is_dir():
        raise FileProblem(f"{folder} is a file; expected a folder with images. Give the folder that holds it.")
    for name, read in (("metadata.jsonl", _read_jsonl), ("metadata.csv", _read_csv)):
        if (folder / name).is_file():
            return _from_metadata(folder, folder / name, list(read(folder / name)))
    everything = sorted(_walk(folder), key=lambda path: path.as_posix())
    images = [path for path in everything if path.suffix.lower() in EXTENSIONS]
    if not images:
        seen = ", ".join(path.name for path in everything[:3]) or "no files at all"
        raise FileProblem(
            f"There are no images under {folder}; it holds {seen}. "
            f"Accepted are files named {', '.join(f'*{extension}' for extension in EXTENSIONS)}."
        )
    here = [path for path in images if path.parent == folder]
    if here:
        chosen = images if recursive else here
        left = len(images) - len(chosen)
        notes = (f"{left} images in sub-folders left out: reading is not recursive",) if left else ()
        return Listing(tuple(_captioned(path) for path in chosen), notes=notes)
    return _class_folders(folder, images, recursive)


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in names if not name.startswith("."))  # skips macOS `._x.png` too


def _class_folders(folder: Path, images: list[Path], recursive: bool) -> Listing:
    chosen = [path for path in images if recursive or path.parent.parent == folder]
    if not chosen:
        raise FileProblem(
            f"{folder} and its sub-folders hold no images; {len(images)} lie deeper. "
            f"Read the folder recursively, or give {images[0].parent}."
        )
    classes = tuple(sorted({path.relative_to(folder).parts[0] for path in chosen}))
    numbers = {name: i for i, name in enumerate(classes)}
    items = tuple(_captioned(path, numbers[path.relative_to(folder).parts[0]]) for path in chosen)
    left = len(images) - len(chosen)
    notes = (f"{left} images in deeper folders left out: reading is not recursive",) if left else ()
    return Listing(items, classes, notes=notes)


def _captioned(path: Path, label: int = -1) -> Item:
    for extension in _CAPTIONS:
        beside = path.with_suffix(extension)
        if beside.is_file():
            try:
                return Item(path, label, " ".join(beside.read_text(encoding="utf-8-sig").split()))
            except (OSError, UnicodeDecodeError) as error:
                return Item(path, label, problem=f"its caption {beside.name} cannot be read as UTF-8 ({error})")
    return Item(path, label)


def _from_metadata(folder: Path, metadata: Path, rows: list[tuple[int, dict]]) -> Listing:
    items, missing = [], []
    root = folder.resolve()
    for line, row in rows:
        name, text = row.get("file_name"), row.get("text")
        if not isinstance(name, str) or not name or not isinstance(text, str | None):
            raise FileProblem(
                f"{metadata}, line {line}: expected `file_name` (and `text`) as strings; found {_short(row)}. "
                "Correct that line."
            )
        path = folder / name
        if not path.resolve().is_relative_to(root):
            missing.append((path, "it lies outside the folder, which metadata may not point to"))
        elif not path.is_file():
            missing.append((path, f"{metadata.name} names it, but there is no such file"))
        else:
            items.append(Item(path, caption=text))
    if not items and not missing:
        raise FileProblem(f"{metadata} names no images. Write one line with `file_name` and `text` for each image.")
    named = {item.path.resolve() for item in items}
    others = [p for p in _walk(folder) if p.suffix.lower() in EXTENSIONS and p.resolve() not in named]
    notes = (f"{len(others)} images left out: {metadata.name} does not name them",) if others else ()
    return Listing(tuple(items), missing=tuple(missing), notes=notes)


def _read_jsonl(path: Path) -> Iterator[tuple[int, dict]]:
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise FileProblem(f"{path}, line {number} is not JSON ({error}). Correct that line.") from error
        if not isinstance(row, dict):
            raise FileProblem(f"{path}, line {number}: expected an object {{...}}, found {_short(row)}. Correct it.")
        yield number, row


def _read_csv(path: Path) -> Iterator[tuple[int, dict]]:
    reader = csv.DictReader(io.StringIO(_text(path), newline=""))
    if "file_name" not in (reader.fieldnames or ()):
        raise FileProblem(
            f"{path} has the columns {', '.join(reader.fieldnames or ()) or 'none'}; expected `file_name` and `text` "
            "in its first line. Add that line."
        )
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise FileProblem(f"{path}, line {reader.line_num} is not CSV ({error}). Correct that line.") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FileProblem(f"{path} cannot be read as UTF-8 text ({error}). Save it as UTF-8.") from error


def _short(thing: object) -> str:
    text = json.dumps(thing, ensure_ascii=False, default=str)
    return text if len(text) <= 120 else f"{text[:117]}..."
