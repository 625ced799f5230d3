"""Training batches of the synthetic world: pictures, captions and truth as tensors, addressed by number.

`count` layouts are rendered once, on first use, and then cycled through; captions are drawn anew each time, half in
each language, so one layout is described in many ways.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import final

import numpy as np
import torch
from torch import Tensor

from huggingvis.core.layout import Layout, inside
from huggingvis.data.draws import stable_hash
from huggingvis.data.sprites import COLOURS
from huggingvis.data.world import World

MOST_THINGS = 4
CAPTION_VARIANTS = 32

Retelling = Callable[[Layout, int], Layout]
"""(layout, number of the draw) -> the layout that a caption speaks of."""


def _as_it_is(layout: Layout, number: int) -> Layout:
    return layout


def keys_of(world: World) -> tuple[str, ...]:
    """Every concept of the world in a fixed order: picture ids, then each shape in each colour."""
    pictures = [s.id for s in world.sprites.pictures]
    return (*pictures, *(f"{colour} {s.id}" for s in world.sprites.shapes for colour in COLOURS))


def said_of(world: World, layouts: Sequence[Layout]) -> tuple[Tensor, Tensor]:
    """Kind and colour of each thing of each layout, [N, 4] int64, -1 for none; kinds: picture ids, then shapes."""
    sprites = world.sprites
    number = {sprite.id: n for n, sprite in enumerate((*sprites.pictures, *sprites.shapes))}
    colour: dict[str | None, int] = {name: n for n, name in enumerate((None, *COLOURS), start=-1)}
    kinds, colours = torch.full((2, len(layouts), MOST_THINGS), -1).unbind()
    for n, layout in enumerate(layouts):
        for m, thing in enumerate(layout.things):
            kinds[n, m], colours[n, m] = number[thing.sprite], colour[thing.colour]
    return kinds, colours


def to_tensor(images: np.ndarray) -> Tensor:
    """uint8 [N, H, W, 3] -> float32 [N, 3, H, W] in [-1, 1], channels last in memory."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


@final
class WorldSet:
    """`Batches` over the first `count` layouts of `world`, from number `first` on.

    A batch: `image` [B, 3, S, S] in [-1, 1]; `boxes` [B, 4, 4] (x0, y0, x1, y1); `classes` [B, 4] index into `keys`, -1
    where there is no thing; `slot` [B, 4] 1 for a thing that holds another; `captions` list of B; `numbers` list of B.
    """

    def __init__(self, world: World, count: int, first: int = 0, pictures: bool = True):
        self.world, self.count, self.first, self.pictures = world, count, first, pictures
        self.keys = keys_of(world)

    @cached_property
    def layouts(self) -> list[Layout]:
        return [self.world.layout(self.first + i) for i in range(self.count)]

    @cached_property
    def images(self) -> np.ndarray:
        size = self.world.size
        out = np.empty((self.count, size, size, 3), np.uint8)
        for row, layout in zip(out, self.layouts, strict=True):
            row[:] = self.world.image(layout)
        return out

    @cached_property
    def truth(self) -> tuple[Tensor, Tensor, Tensor]:
        """boxes [N, 4, 4], classes [N, 4], slot [N, 4] of every layout."""
        number = {key: i for i, key in enumerate(self.keys)}
        boxes = torch.zeros(self.count, MOST_THINGS, 4)
        classes = torch.full((self.count, MOST_THINGS), -1)
        slot = torch.zeros(self.count, MOST_THINGS, dtype=torch.int64)
        for n, layout in enumerate(self.layouts):
            for m, thing in enumerate(layout.things):
                box = thing.box
                boxes[n, m] = torch.tensor([box.x0, box.y0, box.x1, box.y1])
                classes[n, m] = number[thing.key]
                slot[n, m] = any(inside(other.box, box) for other in layout.things if other is not thing)
        return boxes, classes, slot

    def items(self, index: int, size: int) -> list[int]:
        """Which layouts batch `index` of `size` holds."""
        return [i % self.count for i in range(index * size, (index + 1) * size)]

    def captions(self, index: int, size: int, said: Retelling = _as_it_is) -> list[str]:
        """A caption for each layout of the batch, or for what is `said` in its place; half in each language."""
        out = []
        for place, item in enumerate(self.items(index, size)):
            number = index * size + place
            draw, layout = stable_hash("caption", self.world.seed, number), said(self.layouts[item], number)
            language = ("en", "zh")[draw % 2]
            out.append(self.world.caption(layout, language, (draw >> 8) % CAPTION_VARIANTS))
        return out

    def batch(self, index: int, size: int) -> dict:
        items = self.items(index, size)
        boxes, classes, slot = (table[items] for table in self.truth)
        out = {"boxes": boxes, "classes": classes, "slot": slot, "captions": self.captions(index, size)}
        if self.pictures:
            out["image"] = to_tensor(self.images[items])
        return {**out, "numbers": items}


@final
class Mapped:
    """Batches with a function applied: augmentation, tokenising. `change(batch, index)` is pure."""

    def __init__(self, source: WorldSet, change: Callable[[dict, int], dict]):
        self.source, self.change = source, change

    def batch(self, index: int, size: int) -> dict:
        return self.change(self.source.batch(index, size), index)
