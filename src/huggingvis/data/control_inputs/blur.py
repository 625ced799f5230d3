"""A blurred picture, for nets that fill in the detail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from PIL import Image

from huggingvis.core.errors import UsageError
from huggingvis.data.control_arrays import gaussian
from huggingvis.data.control_pictures import Preparation


@final
@dataclass(frozen=True)
class Blur(Preparation):
    """The picture, blurred."""

    sigma: float = 8.0  #: pixels

    also: ClassVar[tuple[str, ...]] = ("blur_gaussian",)
    nets: ClassVar[tuple[str, ...]] = ("blur", "tile")

    def __post_init__(self) -> None:
        if not 0 <= self.sigma <= 512:
            raise UsageError(f"blur: sigma must be between 0 and 512 pixels, found {self.sigma:g}.")

    def __call__(self, image: Image.Image) -> np.ndarray:
        return np.rint(gaussian(np.asarray(image), self.sigma)).clip(0, 255).astype(np.uint8)
