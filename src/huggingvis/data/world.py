"""The world: an endless, reproducible set of captioned layouts with exact truth.

Layout `index` of a world depends on (seed, split, index) alone. Combinations (which two things are together, how
many of one, which shape in which colour) are held out by hash: no training layout contains a held-out one, every
test layout of several things contains at least one, so test scores measure composition, not memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from itertools import combinations

import numpy as np

from huggingvis.core.errors import UsageError, unknown
from huggingvis.core.layout import Box, Edit, Edited, Layout
from huggingvis.data.backgrounds import Backgrounds
from huggingvis.data.captions import Captions
from huggingvis.data.compose import Composer, Mix, Scene
from huggingvis.data.draws import Draws, stable_hash
from huggingvis.data.render import Render, Renderer, check_size
from huggingvis.data.sprites import SpriteSet, objects_v1
from huggingvis.data.vocabulary import unknown_words, vocabulary_words

SPLITS = ("train", "test", "all")
CATEGORIES = ("single", "two", "three", "count", "colour", "position")
POSITIONS = ("left", "right", "above", "below", "inside", "behind")
HELD_OUT_SHARE = 0.1
PATIENCE = 1000


@lru_cache(maxsize=1 << 17)
def held_out(combination: tuple[str, ...]) -> bool:
    """Whether training never sees ('pair', key, key), ('count', key, '3') or ('colour', shape, word)."""
    kind, *parts = combination
    return stable_hash("held-out combination", kind, *sorted(parts)) % 1000 < 1000 * HELD_OUT_SHARE


def combined(layout: Layout) -> tuple[tuple[str, ...], ...]:
    """Every combination that `layout` contains, in the form `held_out` asks for."""
    things = layout.things
    found: list[tuple[str, ...]] = [("colour", t.sprite, t.colour) for t in things if t.colour]
    keys = [t.key for t in things]
    found += [("pair", *sorted(pair)) for pair in combinations(sorted(set(keys)), 2)]
    found += [("count", key, str(keys.count(key))) for key in sorted(set(keys)) if keys.count(key) > 1]
    return tuple(found)


def _snapped(box: Box, lattice: int) -> Box:
    """`box` with its longer side a third of an octave from the next, its corner on the lattice, inside the canvas."""
    longer = max(box.width, box.height)
    scale = min(2 ** (round(3 * math.log2(longer)) / 3), 1 - 1 / lattice) / longer
    width, height = box.width * scale, box.height * scale
    cx, cy = box.centre
    x, y = (
        min(max(round((middle - side / 2) * lattice), 0), math.floor((1 - side) * lattice)) / lattice
        for middle, side in ((cx, width), (cy, height))
    )
    return Box(x, y, x + width, y + height)


def _clear(layout: Layout) -> bool:
    """Whether things lie over one another only where that is said; a lattice may push together what was apart."""
    if layout.relation is not None and layout.relation.kind in ("inside", "behind"):
        return True
    return all(a.box.overlap(b.box) == 0.0 for a, b in combinations(layout.things, 2))


@dataclass(frozen=True)
class World:
    """Captioned layouts over `sprites`, drawn for a canvas of `size` pixels.

    split: 'train' without held-out combinations, 'test' with them, 'all' without regard to them.
    described: how often a plain background is one that captions mention.
    lattice: things stand at whole multiples of 1/lattice of the canvas, in sizes a third of an octave apart; None:
        anywhere, at any size. A world on a lattice says the same in fewer pictures, so less training learns it.
    """

    sprites: SpriteSet = field(default_factory=objects_v1)
    size: int = 64
    seed: int = 0
    split: str = "train"
    mix: Mix = Mix()
    shape_share: float = 0.3
    sized: float = 0.2
    described: float = 0.5
    lattice: int | None = None

    def __post_init__(self) -> None:
        check_size(self.size)
        if self.split not in SPLITS:
            raise unknown("split", self.split, SPLITS)

    @cached_property
    def captions(self) -> Captions:
        return Captions(self.sprites)

    @cached_property
    def _composer(self) -> Composer:
        return Composer(self.sprites, self.shape_share, self.sized)

    @cached_property
    def _rows(self) -> tuple[tuple[str, float], ...]:
        return self.mix.within(self._composer.concepts).rows()

    @cached_property
    def _backgrounds(self) -> Backgrounds:
        return Backgrounds(self.described)

    @cached_property
    def _renderer(self) -> Renderer:
        return Renderer(self.sprites)

    def layout(self, index: int) -> Layout:
        """Layout number `index`, any integer."""
        draws = Draws("layout", self.seed, self.split, index)
        kind = draws.weighted(self._rows)
        return self._until_allowed(draws, lambda: self._composer.scene(draws, kind))

    def _until_allowed(self, draws: Draws, compose: Callable[[], Scene]) -> Layout:
        for _ in range(PATIENCE):
            layout = self._on_ground(draws, compose())
            true = layout.relation is None or layout.holds(layout.relation)
            if true and _clear(layout) and (self.split == "all" or self._belongs(layout)):
                return layout
        raise UsageError(
            f"Found no layout for the split {self.split!r} among {PATIENCE} drawn: with "
            f"{len(self.sprites)} sprites hardly any combination falls into it. "
            "Use more sprites, or split='all'."
        )

    def _belongs(self, layout: Layout) -> bool:
        """A single thing may be tested whether held out or not, so that single prompts are uniform over words."""
        out = any(held_out(c) for c in combined(layout))
        return not out if self.split == "train" else out or len(layout.things) == 1

    def _on_ground(self, draws: Draws, scene: Scene) -> Layout:
        things, relation = scene
        if self.lattice is not None:
            things = tuple(replace(thing, box=_snapped(thing.box, self.lattice)) for thing in things)
        background = self._backgrounds.draw(draws, [(self.sprites[t.sprite], t.colour) for t in things])
        return Layout(self.size, background, things, relation)

    def render(self, layout: Layout, size: int | None = None) -> Render:
        """Picture, masks and boxes of `layout`, at the world's size unless another is given."""
        return self._renderer.render(layout, size or self.size)

    def image(self, layout: Layout, size: int | None = None) -> np.ndarray:
        """The picture alone: uint8 [H, W, 3]."""
        return self._renderer.image(layout, size or self.size)

    def caption(self, layout: Layout, language: str = "en", variant: int = 0) -> str:
        """One sentence; `variant` in 0..31 chooses the phrasing, 0 the canonical one. Both languages say the same."""
        return self.captions.caption(layout, language, variant)

    def kind(self, layout: Layout) -> int:
        """The place in `sprites.groups` of what `layout` shows: the kind of its largest thing, in front if several."""
        largest = max(reversed(layout.things), key=lambda thing: thing.box.area)
        return self.sprites.groups.index(self.sprites[largest.sprite].group)

    def vocabulary_words(self, language: str) -> frozenset[str]:
        """Every word a caption of this world may hold."""
        return vocabulary_words(self.sprites, language)

    def unknown_words(self, text: str, language: str | None = None) -> list[tuple[str, tuple[str, ...]]]:
        """Words of a prompt that no caption could contain, each with known ones near it."""
        return unknown_words(self.sprites, text, language)

    def edit(self, layout: Layout, op: Edit) -> Edited:
        """The true target of an edit, with its sentence in both languages."""
        return layout.edit(op, self.captions)

    def batch(self, indices: Iterable[int]) -> dict:
        """'image' uint8 [N, H, W, 3] and 'layouts', a list of N."""
        layouts = [self.layout(int(i)) for i in indices]
        images = np.empty((len(layouts), self.size, self.size, 3), np.uint8)
        for row, layout in zip(images, layouts, strict=True):
            row[:] = self._renderer.image(layout, self.size)
        return {"image": images, "layouts": layouts}

    def prompts(self, category: str, n: int, seed: int = 0) -> list[Layout]:
        """`n` layouts of one benchmark category (see `CATEGORIES`), their sprites uniform over the vocabulary."""
        if category not in CATEGORIES:
            raise unknown("prompt category", category, CATEGORIES)
        if len(self.sprites) < 4:
            raise UsageError(
                f"Benchmark prompts need a vocabulary of at least 4 sprites; {self.sprites.name!r} has "
                f"{len(self.sprites)}. Add some, or draw layouts with World.layout."
            )
        composer = replace(self._composer, shape_share=len(self.sprites.shapes) / len(self.sprites))
        out = []
        for i in range(n):
            draws = Draws("prompt", self.seed, self.split, category, seed, i)
            out.append(self._until_allowed(draws, partial(_of_category, composer, category, draws, i)))
        return out


def _of_category(composer: Composer, category: str, draws: Draws, i: int) -> Scene:
    if category == "single":
        return composer.single(draws)
    if category == "two":
        return composer.pair(draws)
    if category == "three":
        return composer.three(draws)
    if category == "count":
        return composer.count(draws)
    if category == "colour":
        return composer.pair(draws, (True, True) if i % 2 == 0 else draws.shuffled((True, False)))
    kind = POSITIONS[i % len(POSITIONS)]
    if kind == "inside":
        return composer.inside(draws)
    if kind == "behind":
        return composer.behind(draws)
    return composer.relation(draws, kind=kind)
