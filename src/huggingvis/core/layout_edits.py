"""Edits of layouts: small frozen records, each of which knows the layout after it and where pixels may differ.

`Layout.edit(op)` applies one; the true picture after the edit is the render of the new layout, so an editing method
can be scored pixel by pixel: did it change what it should, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from huggingvis.core.errors import UsageError
from huggingvis.core.layout import Background, Box, Layout, Relation, Thing, thing_at


def _with(layout: Layout, index: int, thing: Thing) -> Layout:
    things = (*layout.things[:index], thing, *layout.things[index + 1 :])
    return replace(layout, things=things).checked()


@dataclass(frozen=True)
class Recolour:
    """Give thing `index` another colour word (a shape)."""

    index: int
    colour: str

    def apply(self, layout: Layout) -> Layout:
        return _with(layout, self.index, replace(thing_at(layout, self.index), colour=self.colour))

    def region(self, layout: Layout) -> tuple[Box, ...]:
        return (thing_at(layout, self.index).box,)


@dataclass(frozen=True)
class Replace:
    """Put another sprite where thing `index` is; `aspect` (width / height) fits its box to the new outline."""

    index: int
    sprite: str
    colour: str | None = None
    aspect: float | None = None

    def apply(self, layout: Layout) -> Layout:
        old = thing_at(layout, self.index)
        return _with(layout, self.index, replace(old, sprite=self.sprite, colour=self.colour, box=self._box(old.box)))

    def _box(self, old: Box) -> Box:
        if self.aspect is None:
            return old
        k = min(old.width / self.aspect, old.height) if self.aspect < 1 else min(old.width, old.height * self.aspect)
        w, h = (k * self.aspect, k) if self.aspect < 1 else (k, k / self.aspect)
        return Box.around(*old.centre, w, h)

    def region(self, layout: Layout) -> tuple[Box, ...]:
        return (thing_at(layout, self.index).box,)


@dataclass(frozen=True)
class Remove:
    """Take thing `index` away; what lay behind it shows."""

    index: int

    def apply(self, layout: Layout) -> Layout:
        thing_at(layout, self.index)
        if len(layout.things) == 1:
            raise UsageError(
                "The only thing of a layout cannot be removed: a picture needs at least one. "
                "Replace it, or change the background."
            )
        kept = (*layout.things[: self.index], *layout.things[self.index + 1 :])
        return replace(layout, things=kept, relation=_without(layout.relation, self.index))

    def region(self, layout: Layout) -> tuple[Box, ...]:
        return (thing_at(layout, self.index).box,)


def _without(relation: Relation | None, index: int) -> Relation | None:
    if relation is None or index in (relation.subject, relation.object):
        return None
    return replace(
        relation,
        subject=relation.subject - (relation.subject > index),
        object=relation.object - (relation.object > index),
    )


@dataclass(frozen=True)
class Add:
    """Put a new thing in front of the others."""

    thing: Thing

    def apply(self, layout: Layout) -> Layout:
        return replace(layout, things=(*layout.things, self.thing))

    def region(self, layout: Layout) -> tuple[Box, ...]:
        return (self.thing.box,)


@dataclass(frozen=True)
class Move:
    """Shift thing `index` by (dx, dy) canvases; it stops at the edge of the canvas."""

    index: int
    dx: float
    dy: float

    def moved(self, box: Box) -> Box:
        dx = min(max(self.dx, -box.x0), 1 - box.x1)
        dy = min(max(self.dy, -box.y0), 1 - box.y1)
        return Box(box.x0 + dx, box.y0 + dy, box.x1 + dx, box.y1 + dy)

    def apply(self, layout: Layout) -> Layout:
        old = thing_at(layout, self.index)
        return _with(layout, self.index, replace(old, box=self.moved(old.box)))

    def region(self, layout: Layout) -> tuple[Box, ...]:
        box = thing_at(layout, self.index).box
        return box, self.moved(box)


@dataclass(frozen=True)
class Resize:
    """Scale thing `index` about its centre; a size word it had is dropped."""

    index: int
    scale: float

    def apply(self, layout: Layout) -> Layout:
        old = thing_at(layout, self.index)
        return _with(layout, self.index, replace(old, box=self._scaled(old.box), size_word=None))

    def _scaled(self, box: Box) -> Box:
        return Box.around(*box.centre, box.width * self.scale, box.height * self.scale)

    def region(self, layout: Layout) -> tuple[Box, ...]:
        box = thing_at(layout, self.index).box
        return box, self._scaled(box)


@dataclass(frozen=True)
class ChangeBackground:
    """Put another background behind the same things."""

    background: Background

    def apply(self, layout: Layout) -> Layout:
        return replace(layout, background=self.background)

    def region(self, layout: Layout) -> None:
        return None
