"""Random holes in pictures, for training nets that fill them: boxes, strokes, a thing, one side, or everything.

Wide strokes and boxes after R. Suvorov et al. 2021, "Resolution-robust Large Mask Inpainting with Fourier Convolutions"
(arXiv 2109.07161), Sec. 2.3; a side is what outpainting sees, everything is text-to-image. Book: chapter 6.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from huggingvis.core.layout import Box
from huggingvis.data.draws import Draws

KINDS = (("boxes", 0.3), ("strokes", 0.25), ("thing", 0.2), ("side", 0.2), ("all", 0.05))
"""Kinds of holes and their shares."""


def hole(size: int, things: Sequence[Box], *key: object) -> np.ndarray:
    """bool [size, size], true where a picture is to be made anew, somewhere at least; a function of its arguments."""
    draws = Draws("hole", *key)
    kind = draws.weighted(KINDS)
    image = Image.new("L", (size, size))
    if kind == "all":
        return np.ones((size, size), bool)
    if kind == "boxes":
        _boxes(image, draws)
    elif kind == "strokes":
        _stroke(image, draws)
    elif kind == "side" or not things:
        _side(image, draws)
    else:
        _around(image, draws.pick(things), draws)
    found = np.asarray(image) > 0
    return found if found.any() else np.ones((size, size), bool)


def _boxes(image: Image.Image, draws: Draws) -> None:
    size = image.width
    for _ in range(1 + draws.below(3)):
        width, height = (round(size * draws.uniform(0.15, 0.6)) for _ in range(2))
        x, y = draws.below(size - width + 1), draws.below(size - height + 1)
        ImageDraw.Draw(image).rectangle((x, y, x + width - 1, y + height - 1), fill=1)


def _stroke(image: Image.Image, draws: Draws) -> None:
    size = image.width
    points = [(draws.below(size), draws.below(size)) for _ in range(2 + draws.below(5))]
    width = max(2, round(size * draws.uniform(0.08, 0.25)))
    drawing = ImageDraw.Draw(image)
    drawing.line(points, fill=1, width=width, joint="curve")
    for x, y in points:
        drawing.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=1)


def _side(image: Image.Image, draws: Draws) -> None:
    size = image.width
    depth = max(1, round(size * draws.uniform(0.2, 0.7)))
    box = draws.pick(
        ((0, 0, depth, size), (size - depth, 0, size, size), (0, 0, size, depth), (0, size - depth, size, size))
    )
    image.paste(1, box)


def _around(image: Image.Image, thing: Box, draws: Draws) -> None:
    """The box of a thing with some of its surroundings."""
    size = image.width
    more = size * draws.uniform(0.0, 0.08)
    x0, y0 = (max(0, int(side * size - more)) for side in (thing.x0, thing.y0))
    x1, y1 = (min(size, round(side * size + more) + 1) for side in (thing.x1, thing.y1))
    image.paste(1, (x0, y0, x1, y1))
