"""Broad strokes, as if drawn by hand: a difference of Gaussians, cut at a threshold.

With the numbers of the web UI's "scribble_xdog" (0.5 and 5 pixels, threshold 32 of twice the difference), so that the
nets for scribbles see what their users give them (Zhang, Rao & Agrawala 2023, arXiv 2302.05543, Sec. 3.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from PIL import Image

from huggingvis.data.control_arrays import gaussian, white_on_black
from huggingvis.data.control_pictures import Preparation


@final
@dataclass(frozen=True)
class Scribble(Preparation):
    """Broad strokes, white on black, without greys."""

    threshold: float = 32.0  #: 1 to 64: how much darker than its surroundings a stroke is, twice

    also: ClassVar[tuple[str, ...]] = ("scribble_xdog", "sketch")
    nets: ClassVar[tuple[str, ...]] = ("scribble", "sketch")

    def __call__(self, image: Image.Image) -> np.ndarray:
        x = np.asarray(image)
        darker = (gaussian(x, 5.0) - gaussian(x, 0.5)).min(axis=2)  # [H, W]: in every channel
        return white_on_black(2.0 * np.ceil(np.clip(darker, 0.0, 255.0)) > self.threshold)
