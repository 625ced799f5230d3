"""Pictures addressed by number: how a set of them is shown to a model, and what is kept of it in a run folder.

Each epoch is a permutation that depends on (seed, epoch) alone, so a killed training resumes on exactly its next batch.
Book: chapter 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from huggingvis.core import config as records
from huggingvis.core.errors import UsageError
from huggingvis.core.protocols import Batch
from huggingvis.data.draws import stable_hash
from huggingvis.data.worldset import to_tensor
from huggingvis.train.run import Run

_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow weighs colours


class PictureSet(Protocol):
    """What `data.imageset.ImageSet` and `data.folder.FolderSet` have in common."""

    @property
    def name(self) -> str: ...

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
    """How pictures are shown to a model. None: as they are.

    Attributes:
        size: side in pixels.
        channels: 1 (grey) or 3 (RGB).
        flip: half of the training pictures are mirrored.
        classes: the model asks for classes; the world, which has captions, then names its pictures' kinds too.
    """

    size: int | None = None
    channels: int | None = None
    flip: bool = False
    classes: bool = False

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

    @property
    def view(self) -> View:
        """How other pictures are shown to the model that was trained on these: straight, as it saw its own."""
        return View(self.size, self.channels, classes=bool(self.classes))

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
        orders = {epoch: permutation(len(self.items), self.seed, int(epoch)) for epoch in np.unique(epochs)}
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
        x = shown(x, self.facts.size, self.facts.channels)
        if mirrored.any():
            x = torch.where(torch.from_numpy(mirrored)[:, None, None, None], x.flip(-1), x)
        return x

    def labels(self, places: np.ndarray) -> Tensor | None:
        """Class numbers [B], where the set has classes."""
        labels = self.pictures.labels
        return None if labels is None else torch.from_numpy(labels[self.items[places]])

    def batch(self, index: int, size: int) -> Batch:
        return self._at(self.places(index, size), self.mirrored(index, size))

    def once(self, size: int) -> Iterator[Batch]:
        """Every picture once, straight and in the order of `items`, `size` at a time; the last batch may be smaller."""
        for start in range(0, len(self), size):
            places = np.arange(start, min(start + size, len(self)))
            yield self._at(places, np.zeros(len(places), dtype=bool))

    def all_images(self) -> Tensor:
        """Every picture once, [N, C, S, S] in [-1, 1]."""
        return torch.cat([batch["image"] for batch in self.once(1000)])

    def all_labels(self) -> Tensor | None:
        """The class number of every picture, [N] int64, where the set has classes."""
        return self.labels(np.arange(len(self)))

    def some(self, count: int) -> Pictures:
        """`count` of the pictures, evenly spaced; all where there are fewer."""
        count = min(count, len(self))
        return Pictures(self.pictures, self.items[np.arange(count) * len(self) // count], self.view, self.facts)

    def without(self, others: Pictures) -> Pictures:
        """Those that are not among `others` of the same set."""
        return Pictures(self.pictures, np.setdiff1d(self.items, others.items), self.view, self.facts)

    def _at(self, places: np.ndarray, mirrored: np.ndarray) -> Batch:
        out: dict[str, object] = {"image": self.images(places, mirrored)}
        labels, captions = self.labels(places), self.pictures.captions
        if labels is not None:
            out["label"] = labels
        if captions is not None:
            out["caption"] = [captions[i] for i in self.items[places]]
        return out


def shown(x: Tensor, size: int, channels: int) -> Tensor:
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
    return x.contiguous()


def _scramble(numbers: np.ndarray, *key: object) -> np.ndarray:
    """64 random bits for each number, by SplitMix64 as in `data.draws`: the same with every version of numpy."""
    z = np.uint64(stable_hash(*key)) + (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@lru_cache(maxsize=8)
def permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    """The permutation of epoch `epoch`, [count]."""
    return np.argsort(_scramble(np.arange(count), "order", seed, epoch), kind="stable")
