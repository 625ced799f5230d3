"""Training data by name: what `--data mnist`, `--data folder:photos` or `--data world:5000` stand for.

    mnist[:ROOT] fashion_mnist[:ROOT] cifar10[:ROOT]   the official files in ROOT; without ROOT they are looked for, and
                                                       downloaded to, the recipe's `root`
    folder:PATH                                        images, class sub-folders, captions (see data.folder)
    world[:N]                                          N layouts of the synthetic world with English captions; where
                                                       classes are asked for, sorted by the largest thing in each:
                                                       animal, food, plant, vehicle, building, nature, thing or shape

A part of the pictures is held out for validation; standard sets have test pictures too. Book: chapter 1.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from huggingvis.core.errors import FileProblem, UsageError, unknown
from huggingvis.data.decode import Decoder
from huggingvis.data.download import Download
from huggingvis.data.folder import FolderOptions, open_folder
from huggingvis.data.imageset import ImageSet
from huggingvis.data.standard import STANDARD_SETS, Split, StandardSet
from huggingvis.data.world import World
from huggingvis.recipes.pictures import Facts, Pictures, PictureSet, View, permutation

__all__ = ["Facts", "PictureSet", "Pictures", "Source", "View", "open_source", "open_split"]

WORLD_LAYOUTS = 20_000
FOLDER_SIZE = WORLD_SIZE = 64

Part = tuple[PictureSet, np.ndarray]
"""A set, and which of its pictures."""


@dataclass(frozen=True)
class Named:
    """What a name stands for: the pictures of each split, found or drawn when they are asked for, and notes."""

    part: Callable[[Split], Part]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Source:
    """Pictures to train on, pictures held out, and what is worth saying about them."""

    facts: Facts
    training: Pictures
    held_out: Pictures
    notes: tuple[str, ...] = ()


def open_source(data: str, view: View, *, root: Path | str = "data", seed: int = 0) -> Source:
    """The source that `data` names. `root`: where standard data sets lie or are downloaded to.

    Raises `UsageError` for an unknown name (with the nearest) and `FileProblem` for missing, empty or damaged data.
    """
    named = _named(data, view, Path(root))
    train, held = named.part(Split.TRAIN), named.part(Split.VALIDATION)
    facts = _facts(data, train, view)
    for note in named.notes:
        print(note, file=sys.stderr)
    return Source(facts, Pictures(*train, view, facts, seed), Pictures(*held, view, facts), named.notes)


def open_split(data: str, split: Split, view: View, *, root: Path | str = "data") -> Pictures:
    """The pictures of one split, straight and in order; no other split needs to be there.

    The test split of a folder is all of it, and that of the world what is held out. Raises as `open_source`.
    """
    part = _named(data, view, Path(root)).part(split)
    return Pictures(*part, replace(view, flip=False), _facts(data, part, view))


def _facts(data: str, part: Part, view: View) -> Facts:
    pictures, items = part
    first = pictures.batch(items[:1])  # [1, H, W, C]
    size, channels = view.size or first.shape[1], view.channels or first.shape[3]
    return Facts(data, len(items), size, channels, tuple(pictures.classes))


def _named(data: str, view: View, root: Path) -> Named:
    name, colon, rest = data.partition(":")
    plain = name.strip().lower().replace("-", "_")
    known = {**dict.fromkeys(STANDARD_SETS, _standard), "folder": _folder, "world": _world}
    if plain in known:
        return known[plain](plain, rest if colon else None, view, root)
    if Path(data).is_dir():
        return _folder("folder", data, view, root)
    raise unknown("training data", data, [*STANDARD_SETS, "folder:PATH", "world"])


def _standard(name: str, place: str | None, view: View, root: Path) -> Named:
    known = STANDARD_SETS[name]

    def part(split: Split) -> Part:
        if place is not None or known.lies_in(root, split):
            pictures = known.load(root if place is None else place, split)
        else:
            pictures = _downloaded(known, root / name, split, Download(_tell))
        return pictures, np.arange(len(pictures))

    return Named(part)


def _downloaded(known: StandardSet, folder: Path, split: Split, download: Download) -> ImageSet:
    try:
        return known.load(folder, split, download)
    except FileProblem as error:
        raise FileProblem(
            f"{error} The {split.value} split of {known.name} is in {' and '.join(known.names(split))}. Or take "
            f"pictures of your own: folder:PATH instead of {known.name}, as in `--data folder:PATH`."
        ) from error


def _folder(name: str, place: str | None, view: View, root: Path) -> Named:
    if not place:
        raise UsageError("The data 'folder' needs a path, as in folder:photos. Give the folder that holds the images.")
    pictures = open_folder(place, FolderOptions(Decoder(view.size or FOLDER_SIZE, view.channels or 3)))
    order = permutation(len(pictures), 0, -1)  # the same pictures are held out whatever the seed
    held = min(len(pictures) // 20, 1000)
    parts = {Split.TRAIN: order[held:], Split.VALIDATION: order[:held], Split.TEST: order}
    notes = tuple(f"{place}: {warning}" for warning in pictures.report.warnings)
    if held == 0:
        notes += (f"{place}: too few pictures to hold any out; validation uses the training pictures.",)
        parts[Split.VALIDATION] = order
    return Named(lambda split: (pictures, np.sort(parts[split])), notes)


def _world(name: str, count: str | None, view: View, root: Path) -> Named:
    if count is not None and not (count.isdecimal() and int(count) > 0):
        raise UsageError(f"world:N takes the number of layouts to draw, as in world:5000; found {count!r}.")
    n = int(count) if count is not None else WORLD_LAYOUTS

    def part(split: Split) -> Part:
        name = "train" if split is Split.TRAIN else "test"
        number = n if split is Split.TRAIN else max(1, min(n // 20, 1000))
        world = World(size=view.size or WORLD_SIZE, split=name)
        layouts = [world.layout(i) for i in range(number)]
        labels = np.array([world.kind(layout) for layout in layouts], np.int64) if view.classes else None
        captions = tuple(world.caption(layout, "en", i % 32) for i, layout in enumerate(layouts))
        images = np.stack([world.image(layout) for layout in layouts])
        classes = world.sprites.groups if view.classes else ()
        return ImageSet(images, labels, captions, classes, f"world {name}"), np.arange(number)

    return Named(part)


def _tell(file: str, done: int, total: int) -> None:
    if done == 0:
        print(f"Downloading {file}, {total:,} bytes ...", file=sys.stderr, flush=True)
    if done == total:
        print(f"Downloaded {file}, {total:,} bytes.", file=sys.stderr)
