"""What tests of the command line share: a sentence, few steps, how to look at a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

FOX = "a fox to the left of a pizza"
SMALL_VAE = ["--size", "8", "--widths", "8", "--latent-dim", "2", "--likelihood", "gaussian", "--batch", "2",
             "--sample-every", "0", "--steps", "2"]  # fmt: skip
SHORT = ["--steps", "3"]


def pixels(path: str | Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)
