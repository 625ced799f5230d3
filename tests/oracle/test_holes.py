"""Things continued in a hole: which are cut, and what counts as found."""

from __future__ import annotations

import numpy as np
import pytest

from huggingvis.core.layout import Background, Box, Layout, Thing
from huggingvis.metrics.holes import continued, cut_things
from huggingvis.metrics.scene_accuracy import Detection


def test_a_thing_is_cut_where_a_fifth_is_on_either_side() -> None:
    masks = np.zeros((4, 10, 20), dtype=bool)
    for thing, left in enumerate((0, 6, 8, 12)):  # each 5 wide; the hole begins at 10
        masks[thing, :, left : left + 5] = True
    hole = np.zeros((10, 20), dtype=bool)
    hole[:, 10:] = True
    assert cut_things(masks, hole) == (1, 2)  # a fifth and three fifths of them are in it
    assert cut_things(masks, ~hole) == (1, 2) and cut_things(masks, hole, 0.3) == (2,)


LAYOUT = Layout(64, Background("plain", ((0, 0, 0),)), (Thing("circle", Box(0.2, 0.2, 0.6, 0.6), "red"),))


@pytest.mark.parametrize(
    ("found", "right"),
    [
        (Detection("circle", "red", (0.2, 0.2, 0.4, 0.4), 0.9), True),
        (Detection("circle", "red", (0.3, 0.2, 0.4, 0.4), 0.9), True),  # 3/5 of the union
        (Detection("circle", "red", (0.35, 0.2, 0.4, 0.4), 0.9), False),  # 5/11
        (Detection("circle", "blue", (0.2, 0.2, 0.4, 0.4), 0.9), False),
        (Detection("square", "red", (0.2, 0.2, 0.4, 0.4), 0.9), False),
        (Detection("circle", "red", (0.7, 0.7, 0.2, 0.2), 0.9), False),
    ],
)
def test_a_thing_goes_on_in_its_name_colour_and_place(found: Detection, right: bool) -> None:
    other = Detection("star", None, (0.0, 0.0, 0.1, 0.1), 0.9)
    assert continued(LAYOUT, 0, (other, found)) is right
    assert not continued(LAYOUT, 0, ())
