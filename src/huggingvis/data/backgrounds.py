"""Backgrounds of layouts: which colours, in which pattern, far enough in colour from what lies on them.

Plain, gradient, low-contrast stripes, a hilly horizon and soft noise. A pattern is a field in [0, 1] that blends
the first colour into the second, so contrast with two colours bounds the contrast with all between.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from huggingvis.core.errors import unknown
from huggingvis.core.layout import RGB, Background
from huggingvis.data.draws import Draws
from huggingvis.data.sprites import Sprite, contrast

NAMED: dict[str, tuple[str, RGB]] = {  # English word: Chinese word, colour
    "white": ("白色", (246, 246, 243)),
    "black": ("黑色", (26, 26, 30)),
    "gray": ("灰色", (150, 152, 155)),
    "blue": ("蓝色", (148, 196, 242)),
    "green": ("绿色", (158, 214, 160)),
    "yellow": ("黄色", (250, 236, 150)),
    "pink": ("粉色", (250, 200, 215)),
    "purple": ("紫色", (196, 168, 232)),
    "orange": ("橙色", (252, 200, 140)),
}
QUIET: tuple[RGB, ...] = (  # never described: light ones, then dark ones
    (250, 240, 215),
    (225, 240, 250),
    (232, 228, 220),
    (215, 235, 225),
    (240, 225, 235),
    (205, 208, 214),
    (190, 215, 205),
    (28, 38, 86),
    (24, 66, 48),
    (84, 30, 46),
    (66, 78, 92),
    (70, 52, 90),
    (96, 110, 80),
)
PATTERNS = (("plain", 0.45), ("gradient", 0.25), ("stripes", 0.1), ("hills", 0.1), ("noise", 0.1))
SOFTNESS = {"gradient": 1.0, "hills": 0.8, "noise": 0.5, "stripes": 0.35}  # how far the second colour goes
ENOUGH = 0.6  # share of a picture's area that must stand out; a shape is one colour, so all or nothing


@lru_cache(maxsize=65536)
def stands_out(sprite: Sprite, colour: str | None, ground: RGB) -> bool:
    """Whether a sprite, in its colour word if it is a shape, is clearly seen on `ground`."""
    return contrast(sprite.tones(colour), (ground,), 38.0 if colour else 24.0) >= ENOUGH


class Backgrounds:
    """Draws backgrounds on which all given things stand out."""

    def __init__(self, described: float = 0.5) -> None:
        self.described = described

    def draw(self, draws: Draws, things: Sequence[tuple[Sprite, str | None]], tries: int = 10) -> Background:
        """A background for `things` (sprite, colour word). After `tries` patterns in vain it is one plain colour."""
        for _ in range(tries):
            found = self._attempt(draws, things)
            if found is not None:
                return found
        return self._plainest(draws, things)

    def _attempt(self, draws: Draws, things: Sequence[tuple[Sprite, str | None]]) -> Background | None:
        pattern = draws.weighted(PATTERNS)
        numbers = tuple(round(draws.unit(), 4) for _ in range(4))
        if pattern == "plain" and draws.chance(self.described):
            name = draws.pick(tuple(NAMED))
            rgb = NAMED[name][1]
            return Background("plain", (_near(draws, rgb, 6),), name) if _fits(things, (rgb,), name) else None
        first = draws.pick(_EVERY)
        if pattern == "plain":
            return Background("plain", (_near(draws, first, 8),)) if _fits(things, (first,)) else None
        second = _toward(first, draws.pick(_EVERY), SOFTNESS[pattern])
        middle = _toward(first, second, 0.5)
        return Background(pattern, (first, second), None, numbers) if _fits(things, (first, middle, second)) else None

    def _plainest(self, draws: Draws, things: Sequence[tuple[Sprite, str | None]]) -> Background:
        def seen(rgb: RGB) -> float:
            return min((contrast(s.tones(c), (rgb,)) for s, c in things), default=1.0)

        order = draws.shuffled(_EVERY)
        return Background("plain", (max(order, key=seen),))


_EVERY: tuple[RGB, ...] = (*(rgb for _, rgb in NAMED.values()), *QUIET)


def _fits(things: Sequence[tuple[Sprite, str | None]], ground: Sequence[RGB], name: str | None = None) -> bool:
    return all(colour != name or name is None for _, colour in things) and all(
        stands_out(sprite, colour, rgb) for sprite, colour in things for rgb in ground
    )


def _near(draws: Draws, rgb: RGB, spread: int) -> RGB:
    r, g, b = (min(255, max(0, v + draws.below(2 * spread + 1) - spread)) for v in rgb)
    return r, g, b


def _toward(a: RGB, b: RGB, k: float) -> RGB:
    r, g, b_ = (round(x + k * (y - x)) for x, y in zip(a, b, strict=True))
    return r, g, b_


@lru_cache(maxsize=16)
def _axes(size: int) -> tuple[np.ndarray, np.ndarray]:
    line = ((np.arange(size) + 0.5) / size).astype(np.float32)
    return line[None, :], line[:, None]  # x [1, W], y [H, 1]


@lru_cache(maxsize=16)
def _smooth(size: int, knots: int = 5) -> np.ndarray:
    """Cosine interpolation from `knots` values to `size` pixels: [size, knots]."""
    place = np.linspace(0, knots - 1, size, dtype=np.float32)
    far = np.abs(place[:, None] - np.arange(knots)[None])
    return np.where(far < 1, 0.5 + 0.5 * np.cos(np.pi * np.minimum(far, 1)), 0).astype(np.float32)


def _gradient(size: int, n: Sequence[float]) -> np.ndarray:
    x, y = _axes(size)
    if n[0] < 0.5:
        return np.broadcast_to(y if n[1] < 0.5 else 1 - y, (size, size))
    return (x + y) / 2 if n[1] < 0.5 else (x + 1 - y) / 2


def _stripes(size: int, n: Sequence[float]) -> np.ndarray:
    x, y = _axes(size)
    across = x if n[0] < 0.33 else y if n[0] < 0.66 else (x + y) / 1.4
    wave = np.sin(2 * np.pi * ((3 + int(n[1] * 4)) * across + n[2]))
    return np.broadcast_to(np.clip(0.5 + 3 * wave, 0, 1), (size, size))


def _hills(size: int, n: Sequence[float]) -> np.ndarray:
    x, y = _axes(size)
    ridge = 0.45 + 0.35 * n[0] + 0.06 * np.sin(2 * np.pi * ((1 + 2 * n[1]) * x + n[2]))
    return np.clip((y - ridge) * size + 0.5, 0, 1)


@lru_cache(maxsize=4096)
def _knots(*numbers: float) -> np.ndarray:
    draws = Draws("noise", *numbers)
    return np.array([draws.unit() for _ in range(25)], np.float32).reshape(5, 5)


def _noise(size: int, n: Sequence[float]) -> np.ndarray:
    up = _smooth(size)  # [S, 5]
    return up @ _knots(*n) @ up.T  # [S, S]


_FIELDS = {"gradient": _gradient, "stripes": _stripes, "hills": _hills, "noise": _noise}


def paint(background: Background, size: int) -> np.ndarray:
    """The background as float32 [size, size, 3] in 0..255."""
    first = np.asarray(background.colours[0], np.float32)
    out = np.empty((size, size, 3), np.float32)
    if background.pattern == "plain":
        out[:] = first
        return out
    if background.pattern not in _FIELDS:
        raise unknown("background pattern", background.pattern, ("plain", *_FIELDS))
    mix = _FIELDS[background.pattern](size, background.numbers)  # [S, S]
    step = np.asarray(background.colours[1], np.float32) - first
    for channel in range(3):
        np.multiply(mix, step[channel], out=out[..., channel])
    out += first
    return out
