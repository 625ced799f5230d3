"""Soft edges: the length of the gradient at several widths, as greys.

The nets for soft edges were trained on maps of an edge-detecting net (HED, PiDiNet), which this approaches without one:
edges that are there at every width are brightest. Book: chapter 6, "A second picture".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from PIL import Image

from huggingvis.core.errors import UsageError
from huggingvis.data.control_arrays import gaussian, sobel, white_on_black
from huggingvis.data.control_pictures import Preparation


@final
@dataclass(frozen=True)
class SoftEdges(Preparation):
    """Soft edges, white on black."""

    widths: tuple[float, ...] = (1.0, 2.0, 4.0)  #: pixels of blur at which edges are looked for
    full: float = 0.99  #: share of the pixels that are darker than white

    also: ClassVar[tuple[str, ...]] = ("softedge", "soft_edge")
    nets: ClassVar[tuple[str, ...]] = ("softedge", "hed", "pidi")

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 0 or not 0 < self.full <= 1:
            raise UsageError("soft_edges: widths must be 0 or more, one at least, and full in (0, 1]; found others.")

    def __call__(self, image: Image.Image) -> np.ndarray:
        x = np.asarray(image)
        found = np.zeros(x.shape[:2], np.float32)
        for width in self.widths:
            dx, dy = sobel(gaussian(x, width))
            found += np.hypot(dx, dy).max(axis=2) * max(width, 1.0)  # a step's gradient falls with the width
        most = float(np.quantile(found, self.full))
        return white_on_black(found / most if most > 1e-3 else np.zeros_like(found))
