"""What several kinds of control pictures compute with: Gaussian blur, Sobel's differences, white on black."""

from __future__ import annotations

import math

import numpy as np


def gaussian(x: np.ndarray, sigma: float) -> np.ndarray:
    """`x` [H, W] or [H, W, C] blurred, float32; beyond its rim it is mirrored. `sigma` 0 leaves it."""
    x = x.astype(np.float32)
    if sigma <= 0.0:
        return x
    reach = math.ceil(4.0 * sigma)
    at = np.arange(-reach, reach + 1, dtype=np.float64)
    weights = np.exp(-0.5 * (at / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)  # [2 reach + 1]
    for axis in (0, 1):
        pads = [(reach, reach) if one == axis else (0, 0) for one in range(x.ndim)]
        padded, n = np.pad(x, pads, mode="reflect"), x.shape[axis]
        x = np.zeros_like(x)
        for k, weight in enumerate(weights):
            x += weight * np.take(padded, range(k, k + n), axis=axis)
    return x


def sobel(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Differences of [H, W, ...] along width and height by Sobel's 3x3 masks; beyond the rim is the rim."""
    padded = np.pad(x, [(1, 1), (1, 1), *[(0, 0)] * (x.ndim - 2)], mode="edge")
    across = padded[:-2] + 2 * padded[1:-1] + padded[2:]  # [H, W + 2, ...]
    down = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]  # [H + 2, W, ...]
    return across[:, 2:] - across[:, :-2], down[2:] - down[:-2]


def white_on_black(strength: np.ndarray) -> np.ndarray:
    """Strengths [H, W] in [0, 1], or truth values, as greys, uint8 [H, W, 3]."""
    greys = np.rint(np.clip(strength.astype(np.float32), 0.0, 1.0) * 255.0).astype(np.uint8)
    return np.repeat(greys[:, :, None], 3, axis=2)
