"""`ImageSet`: labelled or captioned pictures in memory, the one value every small data set loads into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from huggingvis.core.errors import UsageError


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Pictures and what is known about each.

    `images`: uint8 [N, H, W, C]. `labels`: int64 [N], indices into `classes`, or None. `captions`: N sentences, or
    None. `classes`: names, () without labels. Raises `UsageError` when lengths, dtypes or label range disagree.
    """

    images: np.ndarray
    labels: np.ndarray | None = None
    captions: tuple[str, ...] | None = None
    classes: tuple[str, ...] = ()
    name: str = "images"

    def __post_init__(self) -> None:
        n = len(self.images)
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            raise UsageError(
                f"Images of {self.name} are uint8 [N, H, W, C]; found {self.images.dtype} {list(self.images.shape)}."
            )
        if self.captions is not None and len(self.captions) != n:
            raise UsageError(f"{self.name} has {n} images and {len(self.captions)} captions; the numbers must agree.")
        if self.labels is None:
            return
        if self.labels.shape != (n,) or self.labels.dtype != np.int64:
            raise UsageError(
                f"Labels of {self.name} are int64 [{n}]; found {self.labels.dtype} {list(self.labels.shape)}."
            )
        if n and (self.labels.min() < 0 or self.labels.max() >= len(self.classes)):
            raise UsageError(
                f"Labels of {self.name} lie in [{self.labels.min()}, {self.labels.max()}], "
                f"but it has {len(self.classes)} classes, numbered from 0."
            )

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """uint8 [B, H, W, C]: the pictures at `indices`. Other picture sources have the same method."""
        return self.images[np.asarray(indices, dtype=np.int64)]  # [B, H, W, C]

    def subset(self, indices: Sequence[int] | np.ndarray, name: str | None = None) -> ImageSet:
        """The pictures at `indices`, with their labels and captions."""
        chosen = np.asarray(indices, dtype=np.int64)
        return ImageSet(
            self.images[chosen],
            None if self.labels is None else self.labels[chosen],
            None if self.captions is None else tuple(self.captions[i] for i in chosen),
            self.classes,
            name or self.name,
        )
