"""Pixels of layouts: sprites composited over backgrounds, with exact masks and boxes.

`over` of Porter and Duff (1984) with premultiplied colour: out = front + (1 - alpha) back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from huggingvis.core.errors import UsageError
from huggingvis.core.layout import Box, Layout, Thing
from huggingvis.data.artwork import premultiplied
from huggingvis.data.backgrounds import paint
from huggingvis.data.sprites import COLOURS, SpriteSet

MIN_SIZE, MAX_SIZE = 16, 2048
SOLID = 128  # a pixel belongs to a thing where at least half of it is covered


@dataclass(frozen=True)
class Render:
    """A picture and its truth. Masks are [n, H, W] bool, one per thing: `masks` what is seen, `whole` what is there."""

    image: np.ndarray  # [H, W, 3] uint8
    masks: np.ndarray
    whole: np.ndarray
    boxes: tuple[Box, ...]

    def visible(self) -> np.ndarray:
        """The share of each thing that nothing hides: [n] in [0, 1]."""
        return self.masks.sum((1, 2)) / np.maximum(1, self.whole.sum((1, 2)))


@dataclass(frozen=True, slots=True)
class _Stamp:
    """A sprite at one size, ready to be laid on a picture."""

    colour: np.ndarray  # [h, w, 3] float32, premultiplied, 0..255
    through: np.ndarray  # [h, w, 1] float32: 1 - alpha
    solid: np.ndarray  # [h, w] bool


class Renderer:
    """Draws layouts over one sprite set; keeps each sprite at each size it has met (at most `keep` of them)."""

    def __init__(self, sprites: SpriteSet, keep: int = 12_000) -> None:
        self.sprites = sprites
        self.keep = keep
        self._stamps: dict[tuple[str, str | None, int, int], _Stamp] = {}

    def _stamp(self, thing: Thing, width: int, height: int) -> _Stamp:
        key = (thing.sprite, thing.colour, width, height)
        found = self._stamps.get(key)
        if found is None:
            if len(self._stamps) >= self.keep:
                self._stamps.clear()
            sprite = self.sprites[thing.sprite]
            if sprite.is_shape and thing.colour not in COLOURS:
                raise UsageError(
                    f"The shape {thing.sprite!r} needs one of the colours {', '.join(COLOURS)}; found {thing.colour!r}."
                )
            tint = COLOURS[thing.colour].rgb if thing.colour and sprite.is_shape else None
            pixels = premultiplied(sprite.art, width, height, tint)  # [h, w, 4]
            through = 1 - pixels[..., 3:].astype(np.float32) / 255
            colour = np.minimum(pixels[..., :3], pixels[..., 3:]).astype(np.float32)  # never brighter than its coverage
            found = _Stamp(colour, through, pixels[..., 3] >= SOLID)
            self._stamps[key] = found
        return found

    def _window(self, thing: Thing, size: int) -> tuple[int, int, int, int]:
        """Left, top, width, height in pixels."""
        box = thing.box
        width, height = max(1, round(box.width * size)), max(1, round(box.height * size))
        return round(box.x0 * size), round(box.y0 * size), width, height

    def image(self, layout: Layout, size: int) -> np.ndarray:
        """The picture alone, uint8 [size, size, 3]: the fast path of training."""
        canvas = paint(layout.background, size)
        for thing in layout.things:
            x, y, w, h = self._window(thing, size)
            stamp = self._stamp(thing, w, h)
            into, part = _clip(x, y, w, h, size)
            view = canvas[into]
            view *= stamp.through[part]
            view += stamp.colour[part]
        canvas += 0.5
        return canvas.astype(np.uint8)

    def render(self, layout: Layout, size: int) -> Render:
        """The picture with masks and boxes. Raises `UsageError` for a size outside 16..2048."""
        check_size(size)
        n = len(layout.things)
        masks, whole = np.zeros((n, size, size), bool), np.zeros((n, size, size), bool)
        boxes = []
        for i, thing in enumerate(layout.things):
            x, y, w, h = self._window(thing, size)
            into, part = _clip(x, y, w, h, size)
            solid = self._stamp(thing, w, h).solid[part]
            whole[i][into] = solid
            masks[i][into] = solid
            for below in range(i):
                masks[below][into] &= ~solid
            boxes.append(Box(max(0, x) / size, max(0, y) / size, min(size, x + w) / size, min(size, y + h) / size))
        return Render(self.image(layout, size), masks, whole, tuple(boxes))


def check_size(size: int) -> None:
    """Raises `UsageError` unless `size` is a side a layout can be rendered at."""
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise UsageError(
            f"A layout renders at {MIN_SIZE} to {MAX_SIZE} pixels a side; found {size}. Choose a size in that range."
        )


def _clip(x: int, y: int, w: int, h: int, size: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    x0, y0, x1, y1 = max(0, x), max(0, y), min(size, x + w), min(size, y + h)
    x1, y1 = max(x0, x1), max(y0, y1)
    return (slice(y0, y1), slice(x0, x1)), (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))
