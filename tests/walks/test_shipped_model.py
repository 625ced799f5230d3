"""The model that ships: what its card says of it is so, and one known sentence still gives the picture it gave."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import huggingvis as hv
from huggingvis.core.errors import HvisError
from huggingvis.core.picture_files import open_picture
from huggingvis.core.system import System
from huggingvis.data.world import World
from huggingvis.recipes.scene_evaluation import SceneScores

REPOSITORY = Path(__file__).parents[2]
CARD = REPOSITORY / "benchmarks" / "tiny_scene_accuracy.json"
GOLDEN = REPOSITORY / "tests" / "golden" / "tiny-fox-pizza-seed-7.png"


@pytest.fixture(scope="module")
def tiny() -> System:
    return hv.load("tiny", device="cpu")


def test_the_known_sentence_gives_the_known_picture(tiny: System) -> None:
    """Within 2/255 almost everywhere: processors round differently."""
    (picture,) = hv.generate("a fox to the left of a pizza", model=tiny, seed=7)
    apart = np.abs(picture.pixels.astype(int) - open_picture(GOLDEN).pixels.astype(int))
    assert apart.mean() < 1.0 and np.quantile(apart, 0.99) <= 8


def test_both_languages_ask_for_the_same(tiny: System) -> None:
    """The same layout in both languages, from the same noise: nearer to each other than to another sentence's."""
    pictures = [
        hv.generate(text, model=tiny, seed=7)[0].pixels.astype(float)
        for text in (
            "a fox to the left of a pizza",
            "一只狐狸在一个披萨的左边",
            "three blue stars on a white background",
        )
    ]
    same = np.square(pictures[0] - pictures[1]).mean()
    other = np.square(pictures[0] - pictures[2]).mean()
    assert same < 0.5 * other


@pytest.mark.slow
def test_the_card_tells_the_truth(tiny: System) -> None:
    """Evaluated again, every column comes out as committed, above its floor and below its ceiling."""
    try:
        World().image(World().layout(0))
    except HvisError as error:
        pytest.skip(f"pictures of the world need a colour emoji font: {error}")
    card = json.loads(CARD.read_text())
    again = hv.evaluate(tiny, SceneScores(card["prompts"], card["seed"])).record
    assert again["prompts"] == card["prompts"]
    for language in ("en", "zh"):
        rows = {name: again["scene_accuracy"][name]["accuracy"][language] for name in ("floor", "model")}
        known = card["scene_accuracy"]["model"]["accuracy"][language]
        for column, interval in rows["model"].items():
            assert interval["value"] == pytest.approx(known[column]["value"], abs=0.03), (language, column)
            assert interval["value"] >= rows["floor"][column]["value"]
