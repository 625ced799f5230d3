"""Colours in large squares, as T2I-Adapters for colour read them (Mou et al. 2023, arXiv 2302.08453)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from PIL import Image

from huggingvis.core.errors import UsageError
from huggingvis.data.control_pictures import Preparation


@final
@dataclass(frozen=True)
class Palette(Preparation):
    """The picture in squares of one colour each."""

    side: int = 64  #: pixels of a square

    also: ClassVar[tuple[str, ...]] = ("color", "colour", "t2ia_color_grid")
    nets: ClassVar[tuple[str, ...]] = ("color", "colour", "palette")

    def __post_init__(self) -> None:
        if self.side < 1:
            raise UsageError(f"palette: side must be 1 pixel or more, found {self.side}.")

    def __call__(self, image: Image.Image) -> np.ndarray:
        squares = max(1, image.width // self.side), max(1, image.height // self.side)
        return np.asarray(image.resize(squares, Image.Resampling.BICUBIC).resize(image.size, Image.Resampling.NEAREST))
