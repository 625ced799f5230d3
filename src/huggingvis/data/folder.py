"""A folder of images as training data.

Three forms are recognised, in this order: a `metadata.jsonl` or `metadata.csv` with `file_name` and `text`; images in
the folder itself, captioned by same-stem `.txt` or `.caption` files; class sub-folders, one per class. Every file is
decoded once on opening, so that a damaged one is reported by name before training starts, not in its third hour.
"""

from __future__ import annotations

import abc
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from huggingvis.core.errors import FileProblem
from huggingvis.data.decode import EXTENSIONS, Decoder, Unreadable, quiet_decoding
from huggingvis.data.imageset import ImageSet
from huggingvis.data.listing import Item, Listing, list_folder

_NAMED = 8  # how many files a message names before it only counts


@dataclass(frozen=True)
class Problem:
    """A file that could not be used, and why."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class OnCorrupt(abc.ABC):
    """What to do about files that cannot be used."""

    @abc.abstractmethod
    def settle(self, problems: Sequence[Problem]) -> None:
        """Return to go on without the files; raise `FileProblem` to stop."""


@dataclass(frozen=True)
class Refuse(OnCorrupt):
    """Stop, naming the files."""

    def settle(self, problems: Sequence[Problem]) -> None:
        if problems:
            raise FileProblem(
                f"{len(problems)} image(s) cannot be used: {_name_some(problems)}. "
                "Repair or remove them; in Python, FolderOptions(on_corrupt=Skip()) leaves them out."
            )


@dataclass(frozen=True)
class Skip(OnCorrupt):
    """Go on without the files; they stand in the report."""

    def settle(self, problems: Sequence[Problem]) -> None:
        return None


@dataclass(frozen=True)
class FolderOptions:
    """How a folder is read. `memory`: bytes of decoded pictures that may be kept; past that they are decoded anew."""

    decoder: Decoder
    recursive: bool = True
    on_corrupt: OnCorrupt = field(default_factory=Refuse)
    memory: int = 2 << 30


@dataclass(frozen=True)
class FolderReport:
    """What was found: `found` files, `used` pictures, `skipped` ones with reasons, `notes` and `warnings` to read."""

    found: int
    used: int
    skipped: tuple[Problem, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.used} of {self.found} images used"]
        lines += [f"warning: {warning}" for warning in self.warnings]
        lines += [f"skipped {problem}" for problem in self.skipped]
        return "\n".join([*lines, *self.notes])


@dataclass(frozen=True, eq=False)
class FolderSet:
    """Pictures of a folder: as `ImageSet`, but possibly decoded on demand. `pixels` is None when they are.

    `captions`: one per picture ("" where a picture has none), or None where no picture has any.
    """

    paths: tuple[Path, ...]
    labels: np.ndarray | None  # int64 [N]
    captions: tuple[str, ...] | None
    classes: tuple[str, ...]
    name: str
    report: FolderReport
    decoder: Decoder
    pixels: np.ndarray | None  # uint8 [N, S, S, C]

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """uint8 [B, S, S, C]. Raises `FileProblem` if a file was changed or removed since the folder was opened."""
        if self.pixels is not None:
            return self.pixels[np.asarray(indices, dtype=np.int64)]
        return np.stack([self._decode(self.paths[int(i)]) for i in indices])

    def _decode(self, path: Path) -> np.ndarray:
        try:
            return self.decoder(path)[0]
        except Unreadable as error:
            raise FileProblem(
                f"{path} was readable when its folder was opened and is not now: {error}. "
                "Leave the folder unchanged while it is in use."
            ) from error

    def in_memory(self) -> ImageSet:
        """All pictures as an `ImageSet`, whatever memory that takes."""
        images = self.pixels if self.pixels is not None else self.batch(range(len(self)))
        return ImageSet(images, self.labels, self.captions, self.classes, self.name)


def open_folder(path: Path | str, options: FolderOptions) -> FolderSet:
    """Find, check and (where they fit into `options.memory`) decode the images under `path`.

    Raises `FileProblem` for a missing or empty folder, unusable metadata, or damaged images that are not to be
    skipped; ones that are skipped stand in `.report`.
    """
    path = Path(path)
    listing = list_folder(path, options.recursive)
    problems = [Problem(*missing) for missing in listing.missing]
    decoder = options.decoder
    fits = len(listing.items) * decoder.size**2 * decoder.channels <= options.memory
    good: list[Item] = []
    kept: list[np.ndarray] = []
    remarks: dict[str, list[Path]] = {}
    for item, outcome in zip(listing.items, _decode_all(listing.items, decoder, keep=fits), strict=True):
        if isinstance(outcome, Problem):
            problems.append(outcome)
            continue
        pixels, notes = outcome
        good.append(item)
        if pixels is not None:
            kept.append(pixels)
        for note in notes:
            remarks.setdefault(note, []).append(item.path)
    options.on_corrupt.settle(problems)
    if not good:
        raise FileProblem(
            f"None of the {len(problems)} images under {path} can be used: {_name_some(problems)}. Replace them."
        )
    report = _report(listing, good, tuple(problems), remarks)
    return FolderSet(
        paths=tuple(item.path for item in good),
        labels=np.array([item.label for item in good], dtype=np.int64) if listing.classes else None,
        captions=tuple(item.caption or "" for item in good) if any(item.caption for item in good) else None,
        classes=listing.classes,
        name=path.resolve().name,
        report=report,
        decoder=decoder,
        pixels=np.stack(kept) if fits else None,  # [N, S, S, C]
    )


def _decode_all(items: Sequence[Item], decoder: Decoder, keep: bool) -> list:
    def attempt(item: Item) -> Problem | tuple[np.ndarray | None, tuple[str, ...]]:
        if item.problem:
            return Problem(item.path, item.problem)
        try:
            pixels, notes = decoder(item.path)
        except Unreadable as error:
            return Problem(item.path, str(error))
        return (pixels if keep else None), notes

    # Decoding releases the interpreter lock, so threads do use several cores.
    with quiet_decoding(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(attempt, items))


def _report(
    listing: Listing, good: list[Item], problems: tuple[Problem, ...], remarks: dict[str, list[Path]]
) -> FolderReport:
    warnings = []
    if len(good) == 1:
        warnings.append(
            f"there is only one image ({good[0].path.name}); a model trained on it will repeat it and nothing else"
        )
    uncaptioned = [item.path.name for item in good if not item.caption]
    if uncaptioned and len(uncaptioned) < len(good):
        warnings.append(f"{len(uncaptioned)} images have no caption: {_name_some(uncaptioned)}")
    notes = [f"{note}: {_name_some([path.name for path in paths])}" for note, paths in remarks.items()]
    return FolderReport(
        found=len(listing.items) + len(listing.missing),
        used=len(good),
        skipped=problems,
        notes=(*listing.notes, *notes),
        warnings=tuple(warnings),
    )


def _name_some(things: Sequence[object]) -> str:
    named = "; ".join(str(thing) for thing in things[:_NAMED])
    return named if len(things) <= _NAMED else f"{named}; and {len(things) - _NAMED} more"


__all__ = ["EXTENSIONS", "FolderOptions", "FolderReport", "FolderSet", "OnCorrupt", "Problem", "Refuse", "Skip",
           "open_folder"]  # fmt: skip
