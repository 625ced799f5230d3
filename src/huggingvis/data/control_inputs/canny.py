"""Edges of one pixel: Canny 1986, "A Computational Approach to Edge Detection", as OpenCV computes it.

The nets were trained on what OpenCV makes with thresholds of 100 and 200 (Zhang, Rao & Agrawala 2023, arXiv
2302.05543), so its choices are kept: no blur before, Sobel's integer differences of the channel that changes most,
|dx| + |dy| for the length of the gradient, and its rules where two neighbours are equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from PIL import Image

from huggingvis.core.errors import UsageError
from huggingvis.data.control_arrays import sobel, white_on_black
from huggingvis.data.control_pictures import Preparation

_TAN_22 = 13573
"""The tangent of 22.5 degrees in 2^-15."""


@final
@dataclass(frozen=True)
class Canny(Preparation):
    """Thin edges, white on black."""

    low: float = 100.0  #: change of brightness at which an edge goes on
    high: float = 200.0  #: change of brightness at which one begins

    nets: ClassVar[tuple[str, ...]] = ("canny",)

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high:
            raise UsageError(f"canny: 0 <= low <= high must hold, but low is {self.low:g} and high {self.high:g}.")

    def __call__(self, image: Image.Image) -> np.ndarray:
        dx, dy = sobel(np.asarray(image).astype(np.int32))  # [H, W, 3]
        length = np.abs(dx) + np.abs(dy)
        most = length.argmax(axis=2)[:, :, None]
        dx, dy, length = (np.take_along_axis(one, most, axis=2)[:, :, 0] for one in (dx, dy, length))  # [H, W]
        thin = _ridges(dx, dy, length) & (length > np.floor(self.low))
        return white_on_black(_grown(thin, thin & (length > np.floor(self.high))))


def _ridges(dx: np.ndarray, dy: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Where the gradient is longest along its own direction, rounded to 45 degrees. [H, W]."""
    x, y = np.abs(dx).astype(np.int64), np.abs(dy).astype(np.int64) << 15
    flat, steep = y < x * _TAN_22, y > x * _TAN_22 + (x << 16)
    padded = np.pad(length, 1)

    def at(down: int, right: int) -> np.ndarray:
        height, width = length.shape
        return padded[1 + down : 1 + down + height, 1 + right : 1 + right + width]

    across = (length > at(0, -1)) & (length >= at(0, 1))
    upright = (length > at(-1, 0)) & (length >= at(1, 0))
    falling = (length > at(-1, -1)) & (length > at(1, 1))
    rising = (length > at(-1, 1)) & (length > at(1, -1))
    slanted = np.where((dx ^ dy) < 0, rising, falling)
    return np.where(flat, across, np.where(steep, upright, slanted))


def _grown(thin: np.ndarray, strong: np.ndarray) -> np.ndarray:
    """The ridges that hang together with a strong one, over any of eight neighbours. [H, W]."""
    height, width = thin.shape
    open_ = np.pad(thin, 1).ravel()
    wide = width + 2
    steps = (-wide - 1, -wide, -wide + 1, -1, 1, wide - 1, wide, wide + 1)
    todo = np.flatnonzero(np.pad(strong, 1).ravel())
    found = np.zeros_like(open_)
    found[todo] = True
    while len(todo):
        near = np.unique(np.concatenate([todo + step for step in steps]))
        todo = near[open_[near] & ~found[near]]
        found[todo] = True
    return found.reshape(height + 2, wide)[1:-1, 1:-1]
