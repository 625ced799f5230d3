"""A drawn skeleton that is there already (OpenPose's colours), for nets of poses. None is found in photographs here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from PIL import Image

from huggingvis.data.control_pictures import Preparation


@final
@dataclass(frozen=True)
class Pose(Preparation):
    """A given drawing of a pose, as it is. It is not computed from photographs."""

    also: ClassVar[tuple[str, ...]] = ("openpose",)
    nets: ClassVar[tuple[str, ...]] = ("openpose", "pose")

    def __call__(self, image: Image.Image) -> np.ndarray:
        return np.asarray(image)
