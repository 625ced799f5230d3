"""Drawn lines: what is darker than its surroundings, by the difference of two Gaussians with a soft threshold.

Winnemöller, Kyprianidis & Olsen 2012, "XDoG: an eXtended difference-of-Gaussians compendium", Eq. 1 and 5, of which the
lines alone are kept, without the filled shadows, and turned to white on black as the nets of line art read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from PIL import Image

from huggingvis.core.errors import UsageError
from huggingvis.data.control_arrays import gaussian, white_on_black
from huggingvis.data.control_pictures import Preparation


@final
@dataclass(frozen=True)
class Lines(Preparation):
    """Soft lines of a drawing, white on black."""

    sigma: float = 0.7  #: pixels: half the width of the lines that are found
    wider: float = 1.6  #: how many times wider the surroundings are
    least: float = 1.0  #: of 255: a difference below it is no line
    hardness: float = 0.15  #: how soon a line is white

    also: ClassVar[tuple[str, ...]] = ("lineart", "xdog")
    nets: ClassVar[tuple[str, ...]] = ("lineart", "line", "sketch")

    def __post_init__(self) -> None:
        if not (self.sigma > 0 and self.wider > 1 and self.hardness > 0):
            raise UsageError("lines: sigma and hardness must be above 0 and wider above 1; found others.")

    def __call__(self, image: Image.Image) -> np.ndarray:
        grey = np.asarray(image.convert("L"))
        darker = gaussian(grey, self.wider * self.sigma) - gaussian(grey, self.sigma)  # [H, W]
        return white_on_black(np.tanh(self.hardness * np.maximum(darker - self.least, 0.0)))
