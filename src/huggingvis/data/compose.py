"""How layouts are drawn at random: scenes of one to four things, placed so that every stated fact is plainly true.

Sizes are sides of the longer edge in pixels of a 64-pixel canvas, divided by 64. Each composer returns things from
back to front and the relation to state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

from huggingvis.core.layout import Box, Relation, Thing
from huggingvis.data.backgrounds import stands_out
from huggingvis.data.draws import Draws
from huggingvis.data.sprites import COLOURS, Sprite, SpriteSet

Named = tuple[Sprite, str | None]  # a sprite and its colour word
Scene = tuple[tuple[Thing, ...], Relation | None]
PX = 1 / 64
EDGE = PX
SINGLE: Mapping[str | None, tuple[int, int]] = {None: (30, 48), "small": (20, 26), "big": (48, 56)}
PAIR: Mapping[str | None, tuple[int, int]] = {None: (22, 28), "small": (17, 20), "big": (29, 31)}
_NEEDS = {"relation": 2, "pair": 2, "inside": 2, "behind": 2, "three": 3}  # different things at least
SIDES = ("left", "right", "above", "below")


@dataclass(frozen=True)
class Mix:
    """How often each kind of scene is drawn; the weights need not sum to one."""

    single: float = 0.25
    relation: float = 0.30
    pair: float = 0.10
    inside: float = 0.04
    behind: float = 0.04
    three: float = 0.12
    count: float = 0.15

    def rows(self) -> tuple[tuple[str, float], ...]:
        return tuple((f.name, getattr(self, f.name)) for f in fields(self))

    def within(self, concepts: int) -> Mix:
        """Without the scenes that need more different things than `concepts`."""
        none = {name: 0.0 for name, least in _NEEDS.items() if concepts < least}
        return replace(self, **none)


@dataclass(frozen=True)
class Composer:
    """Draws scenes over one vocabulary; `shape_share` of the things are coloured shapes, `sized` carry a size word."""

    sprites: SpriteSet
    shape_share: float = 0.3
    sized: float = 0.2

    @property
    def concepts(self) -> int:
        """How many things can be told apart in one scene: pictures, and one shape per colour."""
        return len(self.sprites.pictures) + (len(COLOURS) if self.sprites.shapes else 0)

    def scene(self, draws: Draws, kind: str) -> Scene:
        """A scene of the kind that a field of `Mix` names."""
        kinds = {
            "single": self.single,
            "relation": self.relation,
            "pair": self.pair,
            "inside": self.inside,
            "behind": self.behind,
            "three": self.three,
            "count": self.count,
        }
        return kinds[kind](draws)

    def thing(self, draws: Draws, shape: bool | None = None) -> Named:
        """A sprite with its colour word; `shape` forces (True) or forbids (False) a shape where the set has both."""
        pictures, shapes = self.sprites.pictures, self.sprites.shapes
        wanted = draws.chance(self.shape_share) if shape is None else shape
        if shapes and (wanted or not pictures):
            return draws.pick(shapes), draws.pick(_COLOUR_NAMES)
        return draws.pick(pictures), None

    def several(self, draws: Draws, n: int, shapes: Sequence[bool | None]) -> list[Named]:
        """`n` things that differ as concepts and, among shapes, in colour."""
        found: list[Named] = []
        while len(found) < n:
            new = self.thing(draws, shapes[len(found)])
            clash = any(new == old or (new[1] and new[1] == old[1]) for old in found)
            if not clash:
                found.append(new)
        return found

    def _size(self, draws: Draws, table: Mapping[str | None, tuple[int, int]]) -> tuple[float, str | None]:
        word = draws.pick(("small", "big")) if draws.chance(self.sized) else None
        return draws.uniform(*table[word]) * PX, word

    def single(self, draws: Draws) -> Scene:
        sprite, colour = self.thing(draws)
        side, word = self._size(draws, SINGLE)
        w, h = extent(sprite, side)
        cx = draws.uniform(EDGE + w / 2, 1 - EDGE - w / 2)
        cy = draws.uniform(EDGE + h / 2, 1 - EDGE - h / 2)
        return (Thing(sprite.id, Box.around(cx, cy, w, h), colour, word),), None

    def relation(self, draws: Draws, shapes: Sequence[bool | None] = (None, None), kind: str | None = None) -> Scene:
        """Two things side by side or one above the other, their relation stated."""
        kind = kind or draws.pick(SIDES)
        named = self.several(draws, 2, shapes)
        things = self._side_by_side(draws, named, kind, 0.45)
        return tuple(things), Relation(kind, 0, 1)

    def pair(self, draws: Draws, shapes: Sequence[bool | None] = (None, None)) -> Scene:
        """Two things anywhere apart; no relation is stated."""
        return tuple(self._side_by_side(draws, self.several(draws, 2, shapes), draws.pick(SIDES), 2.0)), None

    def _side_by_side(self, draws: Draws, named: Sequence[Named], kind: str, slope: float) -> list[Thing]:
        sizes = [self._size(draws, PAIR) for _ in named]
        first, second = (extent(n[0], s[0]) for n, s in zip(named, sizes, strict=True))
        sideways = kind in ("left", "right")
        flip = kind in ("right", "below")
        a, b = (second, first) if flip else (first, second)
        if not sideways:
            a, b = a[::-1], b[::-1]
        (ax, ay), (bx, by), k = place_along(draws, a, b, slope)
        spots = [(ax, ay), (bx, by)] if sideways else [(ay, ax), (by, bx)]
        if flip:
            spots.reverse()
        return [
            Thing(n[0].id, Box.around(*spot, e[0] * k, e[1] * k), n[1], s[1])
            for n, spot, e, s in zip(named, spots, (first, second), sizes, strict=True)
        ]

    def inside(self, draws: Draws) -> Scene:
        """A small thing on a big container shape of another colour."""
        holders = [s for s in self.sprites.sprites if s.container]
        if not holders:
            return self.relation(draws)
        holder, colour = draws.pick(holders), draws.pick(_COLOUR_NAMES)
        inner = self.thing(draws)
        while inner[1] == colour or (holder.id != "ring" and not stands_out(*inner, COLOURS[colour].rgb)):
            inner, colour = self.thing(draws), draws.pick(_COLOUR_NAMES)
        side = draws.uniform(46, 56) * PX
        w, h = extent(holder, side)
        cx = draws.uniform(EDGE + w / 2, 1 - EDGE - w / 2)
        cy = draws.uniform(EDGE + h / 2, 1 - EDGE - h / 2)
        iw, ih = extent(inner[0], draws.uniform(18, 22) * PX)
        play = 0.03 if holder.id == "ring" else 0.07
        ix, iy = cx + draws.uniform(-play, play), cy + draws.uniform(-play, play)
        back = Thing(holder.id, Box.around(cx, cy, w, h), colour)
        return (back, Thing(inner[0].id, Box.around(ix, iy, iw, ih), inner[1])), Relation("inside", 1, 0)

    def behind(self, draws: Draws) -> Scene:
        """One thing partly hidden by another: a sixth to a third of it by the coarse outlines of both."""
        for _ in range(64):
            back, front = self.several(draws, 2, (None, None))
            if not _tell_apart(back, front):
                continue
            bw, bh = extent(back[0], draws.uniform(28, 34) * PX)
            fw, fh = extent(front[0], draws.uniform(22, 28) * PX)
            for _ in range(6):
                found = self._overlapping(draws, (back, bw, bh), (front, fw, fh))
                if found is not None:
                    return found, Relation("behind", 0, 1)
        return self.relation(draws)

    def _overlapping(self, draws: Draws, back: tuple, front: tuple) -> tuple[Thing, Thing] | None:
        (b, bw, bh), (f, fw, fh) = back, front
        dx = (bw + fw) / 2 * draws.uniform(0.45, 0.8) * draws.pick((-1, 1))
        dy = (bh + fh) / 2 * draws.uniform(-0.1, 0.5)
        apart = Box.around(0, 0, bw, bh), Box.around(dx, dy, fw, fh)
        x0, y0 = min(p.x0 for p in apart), min(p.y0 for p in apart)
        w, h = max(p.x1 for p in apart) - x0, max(p.y1 for p in apart) - y0
        if w > 1 - 2 * EDGE or h > 1 - 2 * EDGE or not 0.17 <= hidden_share(b[0], apart[0], f[0], apart[1]) <= 0.36:
            return None
        ox, oy = draws.uniform(EDGE, 1 - EDGE - w) - x0, draws.uniform(EDGE, 1 - EDGE - h) - y0
        return (
            Thing(b[0].id, Box.around(ox, oy, bw, bh), b[1]),
            Thing(f[0].id, Box.around(ox + dx, oy + dy, fw, fh), f[1]),
        )

    def three(self, draws: Draws) -> Scene:
        named = self.several(draws, 3, (None,) * 3)
        boxes = scatter(draws, [extent(n[0], draws.uniform(18, 24) * PX) for n in named])
        return tuple(Thing(n[0].id, box, n[1]) for n, box in zip(named, boxes, strict=True)), None

    def count(self, draws: Draws, number: int | None = None) -> Scene:
        """Two to four of the same thing at nearly the same size."""
        sprite, colour = self.thing(draws)
        n = number or 2 + draws.below(3)
        side = draws.uniform(18, 24)
        boxes = scatter(draws, [extent(sprite, side * draws.uniform(0.94, 1.06) * PX) for _ in range(n)])
        return tuple(Thing(sprite.id, box, colour) for box in boxes), None


_COLOUR_NAMES = tuple(COLOURS)


def extent(sprite: Sprite, side: float) -> tuple[float, float]:
    """Width and height of a sprite whose longer edge is `side`."""
    aspect = sprite.look.aspect
    return side * min(1.0, aspect), side * min(1.0, 1 / aspect)


def place_along(
    draws: Draws,
    a: tuple[float, float],
    b: tuple[float, float],
    slope: float,
) -> tuple[tuple[float, float], tuple[float, float], float]:
    """Centres of two boxes, `a` first along x, at least 0.31 apart there and at most `slope` times that across.

    The third value is the factor by which both must shrink when they do not fit (1 otherwise).
    """
    gap = max(2 * PX, 0.31 - (a[0] + b[0]) / 2)
    free = 1 - 2 * EDGE - a[0] - b[0] - gap
    k = 1.0
    if free < 0:
        k = (1 - 2 * EDGE - gap) / (a[0] + b[0])
        a, b, free = (a[0] * k, a[1] * k), (b[0] * k, b[1] * k), 0.0
    low, high = sorted((draws.uniform(0, free), draws.uniform(0, free)))
    ax = EDGE + low + a[0] / 2
    bx = EDGE + a[0] + gap + high + b[0] / 2
    ay = draws.uniform(EDGE + a[1] / 2, 1 - EDGE - a[1] / 2)
    reach = slope * (bx - ax)
    lowest, highest = max(EDGE + b[1] / 2, ay - reach), min(1 - EDGE - b[1] / 2, ay + reach)
    by = draws.uniform(lowest, highest) if lowest < highest else min(max(ay, EDGE + b[1] / 2), 1 - EDGE - b[1] / 2)
    return (ax, ay), (bx, by), k


def scatter(draws: Draws, extents: Sequence[tuple[float, float]]) -> list[Box]:
    """Boxes of these extents, at least a pixel apart: anywhere if that succeeds soon, else one in each quarter."""
    for _ in range(8):
        boxes: list[Box] = []
        for w, h in extents:
            for _ in range(6):
                new = Box.around(
                    draws.uniform(EDGE + w / 2, 1 - EDGE - w / 2), draws.uniform(EDGE + h / 2, 1 - EDGE - h / 2), w, h
                )
                if all(_apart(new, old) for old in boxes):
                    boxes.append(new)
                    break
            else:
                break
        if len(boxes) == len(extents):
            return boxes
    cells = draws.shuffled(((0, 0), (0, 1), (1, 0), (1, 1)))
    out = []
    for (w, h), (i, j) in zip(extents, cells, strict=False):
        cx = 0.5 * i + draws.uniform(EDGE + w / 2, 0.5 - EDGE - w / 2)
        cy = 0.5 * j + draws.uniform(EDGE + h / 2, 0.5 - EDGE - h / 2)
        out.append(Box.around(cx, cy, w, h))
    return out


def _apart(a: Box, b: Box) -> bool:
    gap = 1.5 * PX
    return a.x1 + gap <= b.x0 or b.x1 + gap <= a.x0 or a.y1 + gap <= b.y0 or b.y1 + gap <= a.y0


def _tell_apart(back: Named, front: Named) -> bool:
    """Whether the edge between two overlapping things shows: the front stands out from the back's main colour."""
    return stands_out(*front, back[0].tones(back[1])[0][0])


def hidden_share(back: Sprite, back_box: Box, front: Sprite, front_box: Box) -> float:
    """The share of the back sprite's coverage cells that the front sprite covers."""
    covered = hidden = 0
    for row in range(8):
        v = (row + 0.5) / 8
        for column in range(8):
            u = (column + 0.5) / 8
            if not back.look.covers(u, v):
                continue
            covered += 1
            x, y = back_box.x0 + u * back_box.width, back_box.y0 + v * back_box.height
            hidden += front.look.covers((x - front_box.x0) / front_box.width, (y - front_box.y0) / front_box.height)
    return hidden / max(1, covered)
