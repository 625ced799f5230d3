"""Whether what is said of a picture of the world is true, by the grammar that its captions come from.

A sentence is true where the grammar has it for what is in the picture: all things are named, with the colours of shapes
and how many there are of a kind; whether it states a relation that holds, the size of a thing that is drawn small or
big, or the background is left to it, as it is in captions. Book: chapter 9, "Judges".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from huggingvis.core.layout import Background, Layout
from huggingvis.data.captions import N_VARIANTS
from huggingvis.data.vocabulary import things_named
from huggingvis.data.world import World


def true_sentences(world: World, layout: Layout, language: str = "en") -> frozenset[str]:
    """Every sentence of the grammar that is true of `layout`, in lower case."""
    return frozenset(
        world.caption(told, language, variant).lower() for told in _tellings(layout) for variant in range(N_VARIANTS)
    )


def _tellings(layout: Layout) -> Iterator[Layout]:
    """The layout with some of its facts stated and others not."""
    grounds: list[Background] = list({name: replace(layout.background, name=name)
                                      for name in (None, layout.background.name)}.values())  # fmt: skip
    sized = [{None: thing, thing.size_word: thing} for thing in layout.things]
    for words in product(*sized):
        things = tuple(replace(thing, size_word=word) for thing, word in zip(layout.things, words, strict=True))
        for ground, relation in product(grounds, (None, *layout.relations())):
            yield replace(layout, background=ground, things=things, relation=relation)


def names_all(world: World, layout: Layout, text: str) -> bool:
    """Whether `text` names the kinds of things that are in `layout` and no others."""
    return set(things_named(world.sprites, text)) == {thing.sprite for thing in layout.things}
