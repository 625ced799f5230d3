"""A picture of fewer pixels at the same size, for nets that put the detail back ("tile")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from PIL import Image

from huggingvis.core.errors import UsageError
from huggingvis.data.control_pictures import Preparation


@final
@dataclass(frozen=True)
class Tile(Preparation):
    """The picture, made smaller and larger again."""

    by: float = 4.0  #: how many times smaller; 1 leaves it as it is

    also: ClassVar[tuple[str, ...]] = ("tile_resample",)
    nets: ClassVar[tuple[str, ...]] = ("tile",)

    def __post_init__(self) -> None:
        if not 1 <= self.by <= 256:
            raise UsageError(f"tile: by must be between 1 and 256, found {self.by:g}.")

    def __call__(self, image: Image.Image) -> np.ndarray:
        small = max(1, round(image.width / self.by)), max(1, round(image.height / self.by))
        if small == image.size:
            return np.asarray(image)
        reduced = image.resize(small, Image.Resampling.BOX)
        return np.asarray(reduced.resize(image.size, Image.Resampling.BICUBIC))
