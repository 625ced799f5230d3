"""A content-addressed cache of arrays on disk: latents, text features, statistics, whatever is slow to make twice.

An entry is named by the BLAKE2b hash of its recipe, a JSON value holding everything the arrays depend on (files'
hashes, model hash, sizes, version). Arrays are `.npy` files read by memory map, so an entry larger than memory works.
An entry appears by one rename of a finished folder: it is whole or absent, whoever is killed meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from huggingvis.core.errors import UsageError
from huggingvis.core.files import explain

Recipe = Mapping[str, Any]
_RECIPE = "recipe.json"


@dataclass(frozen=True)
class Entry:
    """One entry as listed: its key, what it was made from, its size in bytes, when it was written (Unix seconds)."""

    key: str
    recipe: Recipe
    bytes: int
    written: float


def recipe_key(recipe: Recipe) -> str:
    """40 hex digits that depend on the recipe's values, not on the order of its keys."""
    return hashlib.blake2b(_canonical(recipe).encode(), digest_size=20).hexdigest()


@dataclass(frozen=True)
class ArrayCache:
    """The cache in the folder `root`, which is made when the first entry is written."""

    root: Path

    def get(self, recipe: Recipe) -> dict[str, np.ndarray] | None:
        """The arrays made from `recipe`, memory-mapped and read-only, or None. A damaged entry counts as absent."""
        folder = self._folder(recipe_key(recipe))
        try:
            if (folder / _RECIPE).read_text(encoding="utf-8") != _canonical(recipe):
                return None
            return {p.stem: np.load(p, mmap_mode="r", allow_pickle=False) for p in sorted(folder.glob("*.npy"))}
        except (OSError, ValueError, EOFError):
            return None

    def put(self, recipe: Recipe, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Write `arrays` (names are Python identifiers, dtypes plain) under `recipe`; returns them memory-mapped.

        Raises `UsageError` for a name or dtype that cannot be stored, `FileProblem` when the disk refuses.
        """
        for name, array in arrays.items():
            if not name.isidentifier() or array.dtype.hasobject:
                raise UsageError(
                    f"The cache stores plain arrays under plain names; found {name!r} of {array.dtype}. "
                    "Rename the array, or convert it to numbers."
                )
        folder = self._folder(recipe_key(recipe))
        temporary = self.root / f".{folder.name}.{secrets.token_hex(4)}.tmp"
        try:
            temporary.mkdir(parents=True)
            for name, array in arrays.items():
                np.save(temporary / f"{name}.npy", np.asarray(array), allow_pickle=False)
            (temporary / _RECIPE).write_text(_canonical(recipe), encoding="utf-8")
            self._take_place(temporary, folder, recipe)
        except OSError as error:
            raise explain(error, folder) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        stored = self.get(recipe)
        return stored if stored is not None else dict(arrays)

    def get_or_make(self, recipe: Recipe, make: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The stored arrays, or what `make()` returns, stored."""
        stored = self.get(recipe)
        return stored if stored is not None else self.put(recipe, make())

    def entries(self) -> tuple[Entry, ...]:
        """All entries, largest first."""
        found = []
        for path in self.root.glob(f"[!.]*/{_RECIPE}"):
            try:
                recipe = json.loads(path.read_text(encoding="utf-8"))
                size = sum(file.stat().st_size for file in path.parent.iterdir())
                found.append(Entry(path.parent.name, recipe, size, path.stat().st_mtime))
            except (OSError, ValueError):
                continue  # removed by another process meanwhile, or damaged: `clear` still removes it
        return tuple(sorted(found, key=lambda entry: (-entry.bytes, entry.key)))

    def remove(self, key: str) -> int:
        """Remove the entry `key`; returns the bytes freed. Raises `UsageError` if there is none."""
        entry = next((entry for entry in self.entries() if entry.key == key), None)
        if entry is None:
            raise UsageError(f"The cache {self.root} has no entry {key!r}. List its entries to see their keys.")
        self._remove(self._folder(key))
        return entry.bytes

    def clear(self) -> int:
        """Remove every entry, with what killed processes left; returns the bytes of the entries."""
        freed = sum(entry.bytes for entry in self.entries())
        for path in [p.parent for p in self.root.glob(f"*/{_RECIPE}")] + list(self.root.glob(".*.tmp")):
            self._remove(path)
        return freed

    def _folder(self, key: str) -> Path:
        return self.root / key

    def _take_place(self, temporary: Path, folder: Path, recipe: Recipe) -> None:
        """A sound entry that is there already stays: the recipe is the same. A damaged one is replaced."""
        if folder.exists() and self.get(recipe) is None:
            aside = self.root / f".{folder.name}.{secrets.token_hex(4)}.tmp"
            os.rename(folder, aside)
            shutil.rmtree(aside, ignore_errors=True)
        try:
            os.rename(temporary, folder)
        except OSError:
            if not folder.exists():  # else another process wrote the same entry a moment before
                raise

    def _remove(self, folder: Path) -> None:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise explain(error, folder, "remove") from error


def _canonical(recipe: Recipe) -> str:
    try:
        return json.dumps(recipe, sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"A cache recipe holds JSON values only (text, finite numbers, lists, objects): {error}. "
            "Write the rest as text."
        ) from error
