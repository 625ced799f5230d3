"""Pictures and masks to start from, for the tests of image-to-image, inpainting and outpainting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

STEPS = 4


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def box_mask(width: int, height: int) -> np.ndarray:
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[height // 4 : 3 * height // 4, width // 3 : 2 * width // 3 + 1] = 255
    return mask


def save(path: Path, pixels: np.ndarray) -> str:
    Image.fromarray(pixels).save(path)
    return str(path)


def load(path: str) -> np.ndarray:
    return np.array(Image.open(path))
