"""A map of segments that is there already, in the colours of the net's classes (ADE20K). None is guessed here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from PIL import Image

from huggingvis.data.control_pictures import Preparation


@final
@dataclass(frozen=True)
class Segments(Preparation):
    """A given map of segments, as it is. It is not computed from photographs."""

    also: ClassVar[tuple[str, ...]] = ("seg",)
    nets: ClassVar[tuple[str, ...]] = ("seg",)

    def __call__(self, image: Image.Image) -> np.ndarray:
        return np.asarray(image)
