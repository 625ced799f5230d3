"""A map of surface normals that is there already, as renderers write it. None is guessed from photographs here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from PIL import Image

from huggingvis.data.control_pictures import Preparation


@final
@dataclass(frozen=True)
class Normals(Preparation):
    """A given map of normals, as it is. It is not computed from photographs."""

    also: ClassVar[tuple[str, ...]] = ("normal",)
    nets: ClassVar[tuple[str, ...]] = ("normal",)

    def __call__(self, image: Image.Image) -> np.ndarray:
        return np.asarray(image)
