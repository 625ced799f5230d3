"""Whether what is said of a picture of the world is true, by the grammar that its captions come from.

A sentence is true where the grammar has it for what is in the picture: all things are named, with the colours of shapes
and how many there are of a kind; whether it states a relation that holds, the size of a thing that is drawn small or
big, or the background is left to it, as it is in captions. Book: chapter 9, "Judges".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations, product

from huggingvis.core.layout import Background, Layout, Relation
from huggingvis.data.captions import N_VARIANTS
from huggingvis.data.vocabulary import things_named
from huggingvis.data.world import World


def true_sentences(world: World, layout: Layout, language: str = "en") -> frozenset[str]:
    """Every sentence of the grammar that is true of `layout`, in lower case."""
    return frozenset(
        world.caption(told, language, variant).lower() for told in _tellings(layout) for variant in range(N_VARIANTS)
    )


def _tellings(layout: Layout) -> Iterator[Layout]:
    """The layout with its things in every order, and some of its facts stated and others not."""
    grounds: list[Background] = list({name: replace(layout.background, name=name)
                                      for name in (None, layout.background.name)}.values())  # fmt: skip
    relations = layout.relations()  # of things from back to front
    for order in permutations(range(len(layout.things))):
        place = {thing: new for new, thing in enumerate(order)}
        stated = [Relation(r.kind, place[r.subject], place[r.object]) for r in relations]
        sized = [{None, layout.things[i].size_word} for i in order]
        for words, ground, relation in product(product(*sized), grounds, (None, *stated)):
            things = tuple(replace(layout.things[i], size_word=word) for i, word in zip(order, words, strict=True))
            yield replace(layout, background=ground, things=things, relation=relation)


def names_all(world: World, layout: Layout, text: str) -> bool:
    """Whether `text` names the kinds of things that are in `layout` and no others."""
    return set(things_named(world.sprites, text)) == {thing.sprite for thing in layout.things}
