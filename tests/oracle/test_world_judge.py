"""The frozen judge against the world's exact truth: it must see what is there, and nothing in pictures of nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from huggingvis.core.errors import HvisError
from huggingvis.core.layout import Layout
from huggingvis.data.world import World
from huggingvis.data.worldset import WorldSet, keys_of, to_tensor
from huggingvis.metrics.scene_accuracy import scene_accuracy
from huggingvis.recipes.scene_evaluation import layouts_of
from huggingvis.systems.judges.world import WorldJudge, bind


@pytest.fixture(scope="module")
def judge() -> WorldJudge:
    torch.manual_seed(0)
    return bind()


@pytest.fixture(scope="module")
def scenes() -> tuple[list[Layout], np.ndarray]:
    world = World(split="test")
    layouts = layouts_of(world, 150, seed=11)
    try:
        return layouts, np.stack([world.image(layout) for layout in layouts])
    except HvisError as error:
        pytest.skip(f"pictures of the world need a colour emoji font: {error}")


def test_it_knows_the_vocabulary_of_the_world(judge: WorldJudge) -> None:
    assert judge.keys == keys_of(World())


def test_it_sees_what_is_there(judge: WorldJudge, scenes: tuple[list[Layout], np.ndarray]) -> None:
    layouts, pictures = scenes
    accuracy = scene_accuracy(judge, {"en": pictures}, layouts).accuracy["en"]
    for column in ("single", "two", "three", "count", "colour"):
        assert accuracy[column].value >= 0.96, column
    assert accuracy["position"].value >= 0.8


def test_shuffled_truth_is_not_what_it_sees(judge: WorldJudge, scenes: tuple[list[Layout], np.ndarray]) -> None:
    layouts, pictures = scenes
    moved = layouts[1:] + layouts[:1]
    accuracy = scene_accuracy(judge, {"en": pictures}, moved).accuracy["en"]
    assert accuracy["all"].value < 0.1


def test_it_finds_nothing_in_plain_pictures(judge: WorldJudge) -> None:
    plain = np.stack([np.full((64, 64, 3), value, np.uint8) for value in (0, 90, 128, 200, 255)])
    assert [len(found) for found in judge(plain)] == [0] * 5


def test_boxes_are_where_things_are(judge: WorldJudge, scenes: tuple[list[Layout], np.ndarray]) -> None:
    layouts, pictures = scenes
    single = [i for i, layout in enumerate(layouts) if layout.category == "single"]
    apart = []
    for i, found in zip(single, judge(pictures[single]), strict=True):
        best = max(found, key=lambda d: d.score)
        (x, y), (u, v) = best.area.centre, layouts[i].things[0].box.centre
        apart.append(max(abs(x - u), abs(y - v)))
    assert float(np.median(apart)) < 0.02


def test_training_batches_carry_the_truth() -> None:
    data = WorldSet(World(), 8, pictures=False)
    batch = data.batch(1, 4)
    assert batch["numbers"] == [4, 5, 6, 7] and len(batch["captions"]) == 4
    for row, number in enumerate(batch["numbers"]):
        things = data.layouts[number].things
        assert [data.keys[k] for k in batch["classes"][row] if k >= 0] == [thing.key for thing in things]
        assert batch["boxes"][row, 0].tolist() == pytest.approx(
            [things[0].box.x0, things[0].box.y0, things[0].box.x1, things[0].box.y1]
        )
    again = data.batch(3, 4)  # numbers wrap round, captions are new
    assert again["numbers"] == batch["numbers"] and again["captions"] != batch["captions"]


def test_pictures_become_signals() -> None:
    pixels = np.array([[[[0, 128, 255]]]], np.uint8)
    assert to_tensor(pixels).flatten().tolist() == pytest.approx([-1.0, 128 / 127.5 - 1, 1.0], abs=1e-6)
