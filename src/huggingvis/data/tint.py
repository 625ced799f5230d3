"""Layouts as if their things had other colours, or were other things: for captions that no picture belongs to.

Book: chapter 5, "Reading the prompt".
"""

from __future__ import annotations

from dataclasses import replace

from huggingvis.core.layout import Layout, Thing
from huggingvis.data.draws import stable_hash
from huggingvis.data.sprites import COLOURS, SpriteSet


def tinted(layout: Layout, draw: int) -> Layout:
    """`layout` in other colours; about half of the kinds of thing in it that have no colour word get one.

    Of layouts of two coloured things, which mostly are of two kinds, half are of one: colours alone tell those apart.
    """
    names = list(COLOURS)
    turn = stable_hash("turn", draw) % len(names)  # things of two colours stay of two colours

    def word(thing: Thing) -> str | None:
        if thing.colour:
            return names[(names.index(thing.colour) + turn) % len(names)]
        place = stable_hash("tint", draw, thing.sprite) % (2 * len(names))
        return names[place] if place < len(names) else None

    things = tuple(replace(thing, colour=word(thing)) for thing in layout.things)
    if len(things) == len({thing.colour for thing in things} - {None}) == 2 and stable_hash("twins", draw) % 2:
        things = tuple(replace(thing, sprite=things[0].sprite) for thing in things)
    return replace(layout, things=things)


def recast(layout: Layout, draw: int, sprites: SpriteSet) -> Layout:
    """`layout` in other colours, and about half of the kinds of thing in it another: a picture for one, as shapes."""
    pictures, figures = [s.id for s in sprites.pictures], [s.id for s in sprites.shapes]

    def kind(sprite: str) -> str:
        others = figures if sprite in figures else pictures
        place = stable_hash("recast", draw, sprite) % (2 * len(others))
        return others[place] if place < len(others) else sprite

    things = tuple(replace(thing, sprite=kind(thing.sprite)) for thing in layout.things)
    return tinted(replace(layout, things=things), draw)
