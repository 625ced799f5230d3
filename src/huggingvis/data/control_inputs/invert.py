"""Dark for bright: black lines on white paper become the white lines on black that nets of control read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from PIL import Image

from huggingvis.data.control_pictures import Preparation


@final
@dataclass(frozen=True)
class Invert(Preparation):
    """The picture's negative."""

    nets: ClassVar[tuple[str, ...]] = ("lineart", "scribble", "sketch", "canny")

    def __call__(self, image: Image.Image) -> np.ndarray:
        return 255 - np.asarray(image)
