"""Pictures of the world show what their layouts say, and edits change what they say and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from huggingvis.core.layout import Background, Box, Layout, Relation, Thing
from huggingvis.core.layout_edits import Add, ChangeBackground, Move, Recolour, Remove, Replace, Resize
from huggingvis.data.sprites import COLOURS, SpriteSet, shapes
from huggingvis.data.world import World

SHAPES = SpriteSet("shapes", shapes())


@pytest.fixture(scope="module")
def plain() -> Layout:
    """A red circle left of a blue square on white, at whole pixels of 64."""
    circle = Thing("circle", Box(0.125, 0.25, 0.375, 0.5), "red")
    things = (circle, Thing("square", Box(0.625, 0.25, 0.875, 0.5), "blue"))
    return Layout(64, Background("plain", ((246, 246, 243),), "white"), things, Relation("left", 0, 1))


def test_render_matches_its_truth(plain: Layout) -> None:
    world = World(sprites=SHAPES)
    out = world.render(plain)
    assert out.image.shape == (64, 64, 3) and out.image.dtype == np.uint8
    assert tuple(out.image[24, 48]) == COLOURS["blue"].rgb and tuple(out.image[24, 16]) == COLOURS["red"].rgb
    assert tuple(out.image[60, 5]) == (246, 246, 243)
    assert out.masks[1].sum() == 256 and out.masks[1][16:32, 40:56].all()
    assert out.masks[0].sum() == pytest.approx(np.pi * 64, rel=0.03)
    assert out.boxes == tuple(t.box for t in plain.things)
    assert np.array_equal(out.image, world.image(plain))


def test_depth_order_decides_what_is_seen(plain: Layout) -> None:
    front = Thing("square", Box(0.25, 0.25, 0.5, 0.5), "black")
    out = World(sprites=SHAPES).render(plain.edit(Add(front)).layout)
    assert out.visible()[0] == pytest.approx(0.5, abs=0.05) and out.visible()[2] == 1.0
    assert not (out.masks[0] & out.masks[2]).any() and (out.whole[0] & out.whole[2]).any()


@pytest.mark.parametrize("size", [32, 100, 256])
def test_a_layout_renders_at_any_size(plain: Layout, size: int) -> None:
    out = World(sprites=SHAPES).render(plain, size)
    assert out.image.shape == (size, size, 3)
    assert out.whole[1].mean() == pytest.approx(1 / 16, rel=0.1)


def test_batch_is_the_layouts_one_by_one() -> None:
    world = World(sprites=SHAPES, size=32)
    batch = world.batch(range(5, 9))
    assert batch["image"].shape == (4, 32, 32, 3)
    assert all(np.array_equal(world.image(world.layout(5 + i)), batch["image"][i]) for i in range(4))


EDITS = [
    (Recolour(0, "green"), "make the red circle green", "把红色的圆形变成绿色"),
    (Replace(0, "star", "yellow", 1.05), "replace the red circle with a yellow star", "把红色的圆形换成一颗黄色的星星"),
    (Remove(1), "remove the blue square", "去掉蓝色的正方形"),
    (
        Add(Thing("heart", Box(0.7, 0.7, 0.9, 0.9), "purple")),
        "add a purple heart at the bottom right",
        "在右下角加上一个紫色的心形",
    ),
    (Move(0, 0.0, 0.25), "move the red circle down", "把红色的圆形向下移动"),
    (Resize(1, 0.5), "make the blue square smaller", "把蓝色的正方形变小"),
    (ChangeBackground(Background("plain", ((148, 196, 242),), "blue")), "make the background blue", "把背景变成蓝色"),
]


@pytest.mark.parametrize(("op", "en", "zh"), EDITS, ids=lambda value: type(value).__name__)
def test_edits_say_what_they_do_and_change_nothing_else(plain: Layout, op, en: str, zh: str) -> None:
    world = World(sprites=SHAPES)
    done = world.edit(plain, op)
    assert (done.sentences["en"], done.sentences["zh"]) == (en, zh)
    changed = (world.image(plain) != world.image(done.layout)).any(-1)
    assert changed.sum() > 30
    if done.region is None:
        return
    allowed = np.zeros_like(changed)
    for box in done.region:
        allowed[int(box.y0 * 64) - 1 : int(box.y1 * 64) + 2, int(box.x0 * 64) - 1 : int(box.x1 * 64) + 2] = True
    assert not (changed & ~allowed).any()


def test_edits_keep_relations_only_while_true(plain: Layout) -> None:
    assert plain.edit(Recolour(0, "green")).layout.relation == plain.relation
    assert plain.edit(Move(0, 1.0, 0.0)).layout.relation is None
    assert plain.edit(Remove(0)).layout.relation is None
    three = replace(plain, things=(plain.things[0], *plain.things), relation=Relation("left", 1, 2))
    assert three.edit(Remove(0)).layout == plain
    assert plain.edit(Move(0, -1.0, 0.0)).layout.things[0].box.x0 == 0.0


def test_alike_things_are_told_by_place() -> None:
    boxes = [Box(x, 0.4, x + 0.2, 0.6) for x in (0.0, 0.25, 0.5, 0.75)]
    layout = Layout(64, Background("plain", ((0, 0, 0),)), tuple(Thing("dog", box) for box in boxes))
    world = World()
    said = [world.edit(layout, Remove(i)).sentences for i in (0, 1, 3)]
    assert [s["en"] for s in said] == [
        "remove the leftmost dog",
        "remove the second dog from the left",
        "remove the rightmost dog",
    ]
    assert [s["zh"] for s in said] == ["去掉最左边的狗", "去掉左起第二只狗", "去掉最右边的狗"]
