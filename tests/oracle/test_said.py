"""What is said of a picture is judged by the grammar of the world."""

from __future__ import annotations

from dataclasses import replace

import pytest

from huggingvis.codecs.words import cut
from huggingvis.core.layout import Background, Box, Layout, Relation, Thing
from huggingvis.data.said import names_all, true_sentences
from huggingvis.data.world import World
from huggingvis.metrics.words_shared import word_f1
from huggingvis.recipes.caption_truth import truths

WORLD = World(size=32)
GREY = Background("plain", ((128, 128, 128),), None)
FOX_LEFT_OF_RING = Layout(
    32, GREY, (Thing("fox", Box(0.1, 0.4, 0.3, 0.6)), Thing("ring", Box(0.6, 0.4, 0.9, 0.7), colour="blue"))
)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_caption_is_true(language: str) -> None:
    for index in range(40):
        layout = WORLD.layout(index)
        true = true_sentences(WORLD, layout, language)
        assert {WORLD.caption(layout, language, variant).lower() for variant in range(32)} <= true


@pytest.mark.parametrize(
    ("text", "true"),
    [
        ("a fox and a blue ring", True),
        ("a fox to the left of a blue ring", True),
        ("a photo of a blue ring with a fox on its left", True),
        ("a fox to the right of a blue ring", False),
        ("a fox above a blue ring", False),
        ("a fox and a red ring", False),
        ("a fox", False),
        ("a small fox and a blue ring", False),
        ("a fox and a blue ring and a cat", False),
        ("a fox and a blue ring on a grey background", False),
        ("fox a a ring blue and", False),
    ],
)
def test_truth(text: str, true: bool) -> None:
    assert (text in true_sentences(WORLD, FOX_LEFT_OF_RING)) is true


def test_what_captions_leave_out_may_be_left_out() -> None:
    fox = replace(FOX_LEFT_OF_RING.things[0], size_word="small")
    layout = replace(
        FOX_LEFT_OF_RING,
        things=(fox, FOX_LEFT_OF_RING.things[1]),
        background=replace(GREY, name="grey"),
        relation=Relation("left", 0, 1),
    )
    true = true_sentences(WORLD, layout)
    assert {"a fox and a blue ring", "a small fox to the left of a blue ring on a grey background"} <= true
    assert "a fox and a blue ring on a red background" not in true


def test_the_order_of_things_is_free() -> None:
    for index in range(60):
        layout = WORLD.layout(index)
        true = true_sentences(WORLD, layout)
        turned = replace(layout, things=layout.things[::-1], relation=None)
        assert {WORLD.caption(turned, "en", variant).lower() for variant in range(32)} <= true
    three = replace(
        FOX_LEFT_OF_RING, things=(*FOX_LEFT_OF_RING.things, Thing("cat", Box(0.4, 0.0, 0.6, 0.2))), relation=None
    )
    true = true_sentences(WORLD, three)
    assert {"a cat, a fox and a blue ring", "a blue ring, a fox and a cat", "a fox and a cat and a blue ring"} <= true
    assert "a fox to the right of a blue ring, and a cat" not in true


def test_captions_of_pictures_are_true_of_them_and_of_hardly_any_other() -> None:
    layouts = [WORLD.layout(index) for index in range(40)]
    said = [WORLD.caption(layout, "en", index % 32).lower() for index, layout in enumerate(layouts)]
    assert truths(WORLD, layouts, said) == {"named": 1.0, "true": 1.0}
    others = truths(WORLD, layouts, said[1:] + said[:1])
    assert others["named"] < 0.1 and others["true"] < 0.1


def test_names_and_words() -> None:
    assert names_all(WORLD, FOX_LEFT_OF_RING, "a ring over a fox")
    assert not names_all(WORLD, FOX_LEFT_OF_RING, "a fox") and not names_all(WORLD, FOX_LEFT_OF_RING, "a fox ring cat")
    assert word_f1(cut("a fox and a cat"), cut("A fox.")) == pytest.approx(2 * 2 / 7)
    assert word_f1(cut("棒在右边"), cut("棒在左边")) == pytest.approx(0.75)
    assert word_f1(cut("A fox!"), cut("a fox")) == 1.0 and word_f1([], []) == 1.0
    assert word_f1(["dog"], cut("a fox")) == 0.0 and word_f1([], ["fox"]) == 0.0
