"""Black and white, for sketches and scanned drawings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from PIL import Image

from huggingvis.data.control_arrays import white_on_black
from huggingvis.data.control_pictures import Preparation


@final
@dataclass(frozen=True)
class Threshold(Preparation):
    """White where the picture is bright, else black."""

    above: float = 127.0  #: of 255: brighter is white
    invert: bool = False  #: white where it is dark, as for black lines on paper

    nets: ClassVar[tuple[str, ...]] = ("scribble", "sketch", "lineart")

    def __call__(self, image: Image.Image) -> np.ndarray:
        bright = np.asarray(image.convert("L")) > self.above
        return white_on_black(~bright if self.invert else bright)
