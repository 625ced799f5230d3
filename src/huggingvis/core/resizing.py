"""How a picture of one shape comes to a canvas of another: which part of one lies where on the other.

Book: chapter 6, "From a picture".
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Resize = Literal["stretch", "crop", "fill"]
"""How a picture comes to the canvas's size: pulled to it, cut to its shape, or laid in with something around it."""


class Box(NamedTuple):
    """A part of a picture in pixels; right and bottom are the first that do not belong to it."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> tuple[int, int]:
        return self.right - self.left, self.bottom - self.top


def place_on(canvas: tuple[int, int], picture: tuple[int, int], resize: Resize) -> Box:
    """Where on a canvas (width, height) a picture of another size lies; of one that is cut, edges lie outside of it."""
    if resize == "stretch":
        return Box(0, 0, *canvas)
    scale = (max if resize == "crop" else min)(canvas[0] / picture[0], canvas[1] / picture[1])
    width, height = (max(1, round(side * scale)) for side in picture)
    x, y = (canvas[0] - width) // 2, (canvas[1] - height) // 2
    return Box(x, y, x + width, y + height)
