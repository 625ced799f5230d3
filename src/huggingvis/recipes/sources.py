"""Training data by name: what `--data mnist`, `--data folder:photos` or `--data world:5000` stand for.

    mnist[:ROOT] fashion_mnist[:ROOT] cifar10[:ROOT]   the official files in ROOT; without ROOT they are looked for, and
                                                       downloaded to, the recipe's `root`
    folder:PATH                                        images, class sub-folders, captions (see data.folder)
    world[:N]                                          N layouts of the synthetic world with English captions

A source gives batches addressed by number: each epoch is a permutation that depends on (seed, epoch) alone, so a killed
training resumes on exactly its next batch. A part of the pictures is held out for validation. Book: chapter 1.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol, final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from huggingvis.core import config as records
from huggingvis.core.errors import FileProblem, UsageError, unknown
from huggingvis.core.protocols import Batch
from huggingvis.data.decode import Decoder
from huggingvis.data.download import Download
from huggingvis.data.draws import stable_hash
from huggingvis.data.folder import FolderOptions, open_folder
from huggingvis.data.imageset import ImageSet
from huggingvis.data.standard import STANDARD_SETS, Split, StandardSet
from huggingvis.data.world import World
from huggingvis.data.worldset import to_tensor
from huggingvis.train.run import Run

WORLD_LAYOUTS = 20_000
FOLDER_SIZE = WORLD_SIZE = 64
_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow weighs colours


class PictureSet(Protocol):
    """What `data.imageset.ImageSet` and `data.folder.FolderSet` have in common."""

    @property
    def labels(self) -> np.ndarray | None: ...

    @property
    def captions(self) -> tuple[str, ...] | None: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int] | np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class View:
    """How pictures are shown to a model. None: as they are. `flip`: half of the training pictures are mirrored."""

    size: int | None = None
    channels: int | None = None
    flip: bool = False

    def __post_init__(self) -> None:
        if self.size is not None and not 4 <= self.size <= 8192:
            raise UsageError(f"The side of the pictures must lie between 4 and 8192 pixels, found {self.size}.")
        if self.channels not in (None, 1, 3):
            raise UsageError(f"Pictures have 1 (grey) or 3 (RGB) channels, found {self.channels}.")


@dataclass(frozen=True)
class Facts:
    """What a model must know of its training data to be used without them; kept in the run folder.

    Attributes:
        data: the name as it was given.
        count: training pictures.
        size: side in pixels.
        channels: 1 (grey) or 3 (RGB).
        classes: names of the labels, empty without labels.
    """

    data: str
    count: int
    size: int
    channels: int
    classes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one picture: [C, H, W]."""
        return self.channels, self.size, self.size

    def keep(self, run: Run) -> None:
        """Write the facts into the run folder, or compare with those of a run that goes on. Raises `UsageError`."""
        path = run.path / "source.toml"
        if not path.exists():
            if run.parallel.writes:
                records.save(self, path)
            return
        before = records.load(Facts, path)
        if before != self:
            raise UsageError(
                f"The run {run.path} was started on other data: {before} then, {self} now. "
                "Give it the same pictures again, or start a new run."
            )

    @classmethod
    def of(cls, run: Run) -> Facts:
        """The facts of a run folder. Raises `FileProblem`."""
        return records.load(cls, run.path / "source.toml")


@final
class Pictures:
    """`Batches` over the pictures `items` of a set.

    A batch: `image` [B, C, S, S] float32 in [-1, 1]; `label` [B] int64 and `caption` (a list) where the set has them.
    With a `seed` every epoch has an order of its own, without one the order is that of `items`.
    """

    def __init__(self, pictures: PictureSet, items: np.ndarray, view: View, facts: Facts, seed: int | None = None):
        self.pictures, self.items, self.view, self.facts, self.seed = pictures, items, view, facts, seed

    def __len__(self) -> int:
        return len(self.items)

    def places(self, index: int, size: int) -> np.ndarray:
        """Which of the `len(self)` pictures batch `index` of `size` holds, [B]."""
        numbers = np.arange(index * size, (index + 1) * size)
        epochs, within = np.divmod(numbers, len(self.items))
        if self.seed is None:
            return within
        orders = {epoch: _order(len(self.items), self.seed, int(epoch)) for epoch in np.unique(epochs)}
        return np.array([orders[epoch][place] for epoch, place in zip(epochs, within, strict=True)])

    def mirrored(self, index: int, size: int) -> np.ndarray:
        """Which pictures of batch `index` are shown mirrored, [B] bool."""
        if self.seed is None or not self.view.flip:
            return np.zeros(size, dtype=bool)
        numbers = np.arange(index * size, (index + 1) * size)
        return _scramble(numbers, "flip", self.seed) % np.uint64(2) == 1

    def images(self, places: np.ndarray, mirrored: np.ndarray) -> Tensor:
        """The pictures at `places` as the view shows them, those in `mirrored` [B] turned: [B, C, S, S]."""
        x = to_tensor(self.pictures.batch(self.items[places]))  # [B, C, H, W]
        x = _shown(x, self.facts.size, self.facts.channels)
        if mirrored.any():
            x = torch.where(torch.from_numpy(mirrored)[:, None, None, None], x.flip(-1), x)
        return x

    def labels(self, places: np.ndarray) -> Tensor | None:
        """Class numbers [B], where the set has classes."""
        labels = self.pictures.labels
        return None if labels is None else torch.from_numpy(labels[self.items[places]])

    def batch(self, index: int, size: int) -> Batch:
        places = self.places(index, size)
        out: dict[str, object] = {"image": self.images(places, self.mirrored(index, size))}
        labels, captions = self.labels(places), self.pictures.captions
        if labels is not None:
            out["label"] = labels
        if captions is not None:
            out["caption"] = [captions[i] for i in self.items[places]]
        return out


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
    name, colon, rest = data.partition(":")
    plain = name.strip().lower().replace("-", "_")
    known = {**dict.fromkeys(STANDARD_SETS, _standard), "folder": _folder, "world": _world}
    if plain in known:
        train, held, notes = known[plain](plain, rest if colon else None, view, Path(root))
    elif Path(data).is_dir():
        train, held, notes = _folder("folder", data, view, Path(root))
    else:
        raise unknown("training data", data, [*STANDARD_SETS, "folder:PATH", "world"])
    first = train[0].batch(train[1][:1])  # [1, H, W, C]
    facts = Facts(
        data, len(train[1]), view.size or first.shape[1], view.channels or first.shape[3], tuple(train[0].classes)
    )
    for note in notes:
        print(note, file=sys.stderr)
    return Source(facts, Pictures(*train, view, facts, seed), Pictures(*held, view, facts), notes)


Part = tuple[PictureSet, np.ndarray]  # a set and which of its pictures
Parts = tuple[Part, Part, tuple[str, ...]]  # to train on, held out, notes


def _standard(name: str, place: str | None, view: View, root: Path) -> Parts:
    known = STANDARD_SETS[name]
    load: Callable[[Split], ImageSet]
    if place is None:
        download = Download(_tell)
        load = lambda split: _downloaded(known, root / name, split, download)  # noqa: E731
    else:
        load = lambda split: known.load(place, split)  # noqa: E731
    train, held = load(Split.TRAIN), load(Split.VALIDATION)
    return (train, np.arange(len(train))), (held, np.arange(len(held))), ()


def _downloaded(known: StandardSet, folder: Path, split: Split, download: Download) -> ImageSet:
    try:
        return known.load(folder, split, download)
    except FileProblem as error:
        raise FileProblem(
            f"{error} Or take pictures of your own: folder:PATH instead of {known.name}, as in `--data folder:PATH`."
        ) from error


def _folder(name: str, place: str | None, view: View, root: Path) -> Parts:
    if not place:
        raise UsageError("The data 'folder' needs a path, as in folder:photos. Give the folder that holds the images.")
    pictures = open_folder(place, FolderOptions(Decoder(view.size or FOLDER_SIZE, view.channels or 3)))
    order = _order(len(pictures), 0, -1)  # the same pictures are held out whatever the seed
    held = min(len(pictures) // 20, 1000)
    notes = tuple(f"{place}: {warning}" for warning in pictures.report.warnings)
    if held == 0:
        notes += (f"{place}: too few pictures to hold any out; validation uses the training pictures.",)
        return (pictures, np.sort(order)), (pictures, np.sort(order)), notes
    return (pictures, np.sort(order[held:])), (pictures, np.sort(order[:held])), notes


def _world(name: str, count: str | None, view: View, root: Path) -> Parts:
    if count is not None and not (count.isdecimal() and int(count) > 0):
        raise UsageError(f"world:N takes the number of layouts to draw, as in world:5000; found {count!r}.")
    n = int(count) if count is not None else WORLD_LAYOUTS

    def drawn(split: str, n: int) -> Part:
        world = World(size=view.size or WORLD_SIZE, split=split)
        layouts = [world.layout(i) for i in range(n)]
        captions = tuple(world.caption(layout, "en", i % 32) for i, layout in enumerate(layouts))
        images = np.stack([world.image(layout) for layout in layouts])
        return ImageSet(images, None, captions, (), f"world {split}"), np.arange(n)

    return drawn("train", n), drawn("test", max(1, min(n // 20, 1000))), ()


def _tell(file: str, done: int, total: int) -> None:
    if done == 0:
        print(f"Downloading {file}, {total:,} bytes ...", file=sys.stderr, flush=True)
    if done == total:
        print(f"Downloaded {file}, {total:,} bytes.", file=sys.stderr)


def _shown(x: Tensor, size: int, channels: int) -> Tensor:
    """`x` [B, C, H, W] as a square of `size` pixels with `channels` channels: largest centred square, antialiased."""
    if channels == 3 and x.shape[1] == 1:
        x = x.expand(-1, 3, -1, -1)
    elif channels == 1 and x.shape[1] == 3:
        x = (x * x.new_tensor(_GREY)[:, None, None]).sum(1, keepdim=True)
    if x.shape[2] != x.shape[3]:
        side = min(x.shape[2:])
        top, left = (x.shape[2] - side) // 2, (x.shape[3] - side) // 2
        x = x[:, :, top : top + side, left : left + side]
    if x.shape[-1] != size:
        x = F.interpolate(x, size=(size, size), mode="bilinear", antialias=True).clamp(-1, 1)
    return x.contiguous(memory_format=torch.channels_last)


def _scramble(numbers: np.ndarray, *key: object) -> np.ndarray:
    """64 random bits for each number, by SplitMix64 as in `data.draws`: the same with every version of numpy."""
    z = np.uint64(stable_hash(*key)) + (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@lru_cache(maxsize=8)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The permutation of epoch `epoch`, [count]."""
    return np.argsort(_scramble(np.arange(count), "order", seed, epoch), kind="stable")
