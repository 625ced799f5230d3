"""A layout: what is in a picture and where, exactly. The truth that methods are trained on and scored against.

A layout knows no pixels. Boxes are fractions of the canvas, x to the right and y down, so one layout renders at any
size; things lie from back to front in tuple order. `data.world` draws layouts, renders and describes them;
metrics ask the same predicates (`left_of` …) of what they find in a generated picture.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from huggingvis.core.errors import UsageError, unknown

RGB = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Box:
    """Left, top, right, bottom in [0, 1] of the canvas."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def centre(self) -> tuple[float, float]:
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2

    @property
    def width(self) -> float:
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        return self.y1 - self.y0

    @property
    def area(self) -> float:
        return max(0.0, self.width) * max(0.0, self.height)

    @staticmethod
    def around(cx: float, cy: float, width: float, height: float) -> Box:
        return Box(cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)

    def overlap(self, other: Box) -> float:
        """Area of the intersection, in canvas areas."""
        w = min(self.x1, other.x1) - max(self.x0, other.x0)
        h = min(self.y1, other.y1) - max(self.y0, other.y0)
        return w * h if w > 0 and h > 0 else 0.0


def left_of(a: Box, b: Box, margin: float = 0.12) -> bool:
    """`a` lies left of `b`: centres at least `margin` apart, and further apart sideways than up and down."""
    (ax, ay), (bx, by) = a.centre, b.centre
    return bx - ax >= margin and bx - ax > abs(by - ay)


def right_of(a: Box, b: Box, margin: float = 0.12) -> bool:
    return left_of(b, a, margin)


def above(a: Box, b: Box, margin: float = 0.12) -> bool:
    """`a` lies above `b`: as `left_of`, on the other axis."""
    (ax, ay), (bx, by) = a.centre, b.centre
    return by - ay >= margin and by - ay > abs(bx - ax)


def below(a: Box, b: Box, margin: float = 0.12) -> bool:
    return above(b, a, margin)


def inside(a: Box, b: Box, slack: float = 0.03) -> bool:
    """`a` lies within the box of `b`, up to `slack` on each side, and is clearly smaller."""
    within = a.x0 >= b.x0 - slack and a.y0 >= b.y0 - slack and a.x1 <= b.x1 + slack and a.y1 <= b.y1 + slack
    return within and a.area < 0.7 * b.area


def behind(a: Box, b: Box, least: float = 0.04) -> bool:
    """The boxes meet (at least `least` of `a`) and neither holds the other; depth is the layout's to say."""
    return a.overlap(b) >= least * a.area and not inside(a, b) and not inside(b, a)


RELATIONS: Mapping[str, Callable[[Box, Box], bool]] = {
    "left": left_of,
    "right": right_of,
    "above": above,
    "below": below,
    "inside": inside,
    "behind": behind,
}


@dataclass(frozen=True, slots=True)
class Relation:
    """Thing `subject` stands in relation `kind` (a key of `RELATIONS`) to thing `object`: places in `things`."""

    kind: str
    subject: int
    object: int

    def __post_init__(self) -> None:
        if self.kind not in RELATIONS:
            raise unknown("relation", self.kind, RELATIONS)


@dataclass(frozen=True, slots=True)
class Background:
    """What lies behind all things: `pattern` blends the first colour into the second.

    `pattern` is plain, gradient, stripes, hills or noise; `numbers` are its free parameters in [0, 1);
    `name` is the colour word of a described background, None when captions do not mention it.
    """

    pattern: str
    colours: tuple[RGB, ...]
    name: str | None = None
    numbers: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Thing:
    """One sprite in its place. `colour` and `size_word` are what captions say: None when they say nothing."""

    sprite: str
    box: Box
    colour: str | None = None
    size_word: str | None = None

    @property
    def key(self) -> str:
        """The concept: the sprite's name, with its colour where it has one. Combinations are held out by this."""
        return f"{self.colour} {self.sprite}" if self.colour else self.sprite


class Edit(Protocol):
    """A change of a layout: what it becomes, and the boxes outside of which nothing may change (None: anywhere)."""

    def apply(self, layout: Layout) -> Layout: ...

    def region(self, layout: Layout) -> tuple[Box, ...] | None: ...


class Wording(Protocol):
    """Says an edit in each language; `data.captions.Captions` is one."""

    def instruction(self, layout: Layout, op: Edit, language: str) -> str: ...


@dataclass(frozen=True)
class Edited:
    """The true target of an edit, its sentence per language, and where pixels may differ (None: anywhere)."""

    layout: Layout
    sentences: Mapping[str, str]
    region: tuple[Box, ...] | None


@dataclass(frozen=True, slots=True)
class Layout:
    """Background, things from back to front, and the relation that captions state (None: they only list the things).

    `size` is the side in pixels of the square canvas the layout was drawn for; rendering may choose another.
    """

    size: int
    background: Background
    things: tuple[Thing, ...]
    relation: Relation | None = None

    @property
    def category(self) -> str:
        """single, count, position, two, three or four: what kind of scene this is."""
        keys = {thing.key for thing in self.things}
        if len(self.things) == 1:
            return "single"
        if self.relation is not None:
            return "position"
        if len(keys) == 1:
            return "count"
        return {2: "two", 3: "three"}.get(len(self.things), "four")

    def holds(self, relation: Relation) -> bool:
        """Whether `relation` is true of these boxes and, for inside and behind, of the depth order."""
        first, second = self.things[relation.subject].box, self.things[relation.object].box
        if relation.kind == "behind" and relation.subject > relation.object:
            return False
        if relation.kind == "inside" and relation.subject < relation.object:
            return False
        return RELATIONS[relation.kind](first, second)

    def relations(self) -> tuple[Relation, ...]:
        """Every relation true of this layout, over all ordered pairs."""
        n = range(len(self.things))
        every = (Relation(kind, a, b) for kind in RELATIONS for a in n for b in n if a != b)
        return tuple(relation for relation in every if self.holds(relation))

    def checked(self) -> Layout:
        """Itself, its stated relation dropped when no longer true."""
        return self if self.relation is None or self.holds(self.relation) else replace(self, relation=None)

    def edit(self, op: Edit, wording: Wording | None = None) -> Edited:
        """The layout after `op`, with the sentences that ask for it when a `wording` is given (English and Chinese)."""
        sentences = {} if wording is None else {code: wording.instruction(self, op, code) for code in ("en", "zh")}
        return Edited(op.apply(self), sentences, op.region(self))

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> Layout:
        """The inverse of `to_json`. Raises `UsageError` when `text` is no layout."""
        try:
            return _layout(json.loads(text))
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise UsageError(
                f"Expected a layout as JSON, as Layout.to_json writes it; found a problem: {error!r}. "
                "Write it again with Layout.to_json."
            ) from error


def _layout(record: Mapping[str, Any]) -> Layout:
    ground, relation = record["background"], record.get("relation")
    background = Background(
        ground["pattern"],
        tuple((int(r), int(g), int(b)) for r, g, b in ground["colours"]),
        ground.get("name"),
        tuple(float(x) for x in ground.get("numbers", ())),
    )
    things = tuple(Thing(t["sprite"], _box(t["box"]), t.get("colour"), t.get("size_word")) for t in record["things"])
    stated = Relation(**relation) if relation else None
    if stated is not None and not {stated.subject, stated.object} <= set(range(len(things))):
        raise ValueError(f"the relation {stated} is of things that are not there")
    return Layout(int(record["size"]), background, things, stated)


def _box(record: Mapping[str, Any]) -> Box:
    return Box(*(float(record[side]) for side in ("x0", "y0", "x1", "y1")))


def thing_at(layout: Layout, index: int) -> Thing:
    """Thing `index`, or a `UsageError` that says how many there are."""
    if not 0 <= index < len(layout.things):
        raise UsageError(f"The layout has {len(layout.things)} things, numbered from 0; there is no thing {index}.")
    return layout.things[index]
