"""A map of depth that is there already, as cameras, renderers and other programs write it; 8 or 16 bits a grey.

No net is here that would guess depth from a photograph. The nets of control read near as white (MiDaS' convention).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from PIL import Image

from huggingvis.data.control_arrays import white_on_black
from huggingvis.data.control_pictures import Preparation


@final
@dataclass(frozen=True)
class Depth(Preparation):
    """A given map of depth, near white. It is not computed from photographs."""

    invert: bool = False  #: near is dark in the file, as where it holds distances
    normalise: bool = True  #: stretch nearest and farthest to white and black

    nets: ClassVar[tuple[str, ...]] = ("depth",)
    raw: ClassVar[bool] = True

    def __call__(self, image: Image.Image) -> np.ndarray:
        far = np.nan_to_num(np.asarray(image, dtype=np.float32))  # [H, W]
        low, high = float(far.min()), float(far.max())
        if not self.normalise:
            low, high = 0.0, 255.0 if high <= 255.0 else 65535.0
        share = (far - low) / (high - low) if high > low else np.zeros_like(far)
        return white_on_black(1.0 - share if self.invert else share)
