"""Scene accuracy on hand-made detections: each column fails for exactly one reason."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from huggingvis.core.errors import UsageError
from huggingvis.core.layout import Background, Box, Layout, Relation, Thing
from huggingvis.metrics.scene_accuracy import COLUMNS, Detection, Detector, Rules, scene_accuracy, stands, verdicts
from huggingvis.metrics.scene_table import render_table, table_record

PLACES = {"w": Box(0.05, 0.4, 0.35, 0.7), "e": Box(0.6, 0.4, 0.9, 0.7), "n": Box(0.35, 0.0, 0.65, 0.3)}


def layout(*things: str, relation: Relation | None = None) -> Layout:
    """Things as 'name' or 'colour name', placed west, east, north."""
    made = [Thing(t.split()[-1], box, t.split()[0] if " " in t else None) for t, box in zip(things, PLACES.values())]
    return Layout(128, Background("plain", ((255, 255, 255),)), tuple(made), relation)


def seen(what: str, place: str | Box = "w", score: float = 0.9, visible: float | None = None) -> Detection:
    box = PLACES[place] if isinstance(place, str) else place
    colour = what.split()[0] if " " in what else None
    return Detection(what.split()[-1], colour, (box.x0, box.y0, box.width, box.height), score, visible)


LEFT = Relation("left", 0, 1)
CASES = {  # layout, detections that are right, detections wrong in one column for one reason, that column
    "missing": (layout("cat"), [seen("cat"), seen("dog")], [seen("dog")], "single"),
    "unsure": (layout("cat"), [seen("cat", score=0.51)], [seen("cat", score=0.49)], "single"),
    "second missing": (layout("cat", "dog"), [seen("cat"), seen("cat", "n"), seen("dog")], [seen("cat")], "two"),
    "one for two": (layout("ring", "red ring"), [seen("ring"), seen("red ring")], [seen("red ring")], "two"),
    "third missing": (
        layout("cat", "dog", "cow"),
        [seen("cat"), seen("dog"), seen("cow")],
        [seen("cat"), seen("dog"), seen("dog", "n")],
        "three",
    ),
    "one short": (layout("cat", "cat", "cat"), [seen("cat", p) for p in "wen"], [seen("cat"), seen("cat")], "count"),
    "one over": (layout("cat", "cat"), [seen("cat"), seen("cat"), seen("dog")], [seen("cat")] * 3, "count"),
    "other colour": (layout("red ring"), [seen("red ring")], [seen("blue ring")], "colour"),
    "colours swapped": (
        layout("red ring", "blue disc"),
        [seen("blue disc"), seen("red ring"), seen("red disc")],
        [seen("red disc"), seen("blue ring")],
        "colour",
    ),
    "mirrored": (
        layout("cat", "dog", relation=LEFT),
        [seen("cat", "w"), seen("dog", "e")],
        [seen("cat", "e"), seen("dog", "w")],
        "position",
    ),
    "absent object": (layout("cat", "dog", relation=LEFT), [seen("cat"), seen("dog", "e")], [seen("cat")], "position"),
    "hidden behind itself": (
        layout("ring", "ring", relation=Relation("behind", 0, 1)),
        [seen("ring"), seen("ring", Box(0.2, 0.5, 0.5, 0.8))],
        [seen("ring")],
        "position",
    ),
    "told apart by colour": (
        layout("red ring", "blue ring", relation=LEFT),
        [seen("red ring", "w", 0.6), seen("blue ring", "e")],
        [seen("red ring", "e", 0.6), seen("blue ring", "w")],
        "position",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_column_fails_for_exactly_one_reason(name: str) -> None:
    truth, right, wrong, column = CASES[name]
    good = verdicts([truth], [tuple(right)], Rules())
    bad = verdicts([truth], [tuple(wrong)], Rules())
    assert good[column] == (True,) and False not in [v[0] for v in good.values()]
    assert {key for key, marks in bad.items() if marks[0] is False} == {column}


A = Box(0.4, 0.4, 0.6, 0.6)
RELATED = {  # relation: a box of the subject that stands so to A, and one that does not
    "left": (Box(0.1, 0.4, 0.3, 0.6), Box(0.38, 0.4, 0.58, 0.6)),
    "right": (Box(0.7, 0.4, 0.9, 0.6), Box(0.1, 0.4, 0.3, 0.6)),
    "above": (Box(0.4, 0.1, 0.6, 0.3), Box(0.1, 0.3, 0.3, 0.5)),
    "below": (Box(0.4, 0.7, 0.6, 0.9), Box(0.4, 0.1, 0.6, 0.3)),
    "inside": (Box(0.44, 0.44, 0.56, 0.56), Box(0.5, 0.5, 0.7, 0.7)),
    "behind": (Box(0.5, 0.45, 0.75, 0.7), Box(0.7, 0.4, 0.9, 0.6)),
}


@pytest.mark.parametrize("kind", RELATED)
def test_relations_between_detected_boxes(kind: str) -> None:
    yes, no = RELATED[kind]
    relation, target = Relation(kind, 0, 1), seen("dog", A)
    assert stands(relation, seen("cat", yes), target, Rules())
    assert not stands(relation, seen("cat", no), target, Rules())


def test_a_relation_survives_an_error_of_the_tolerance_but_not_more() -> None:
    relation, target = Relation("left", 0, 1), seen("dog", A)
    for dx, holds in ((0.12, True), (0.092, True), (0.088, False)):  # truth's own margin is 0.12
        assert stands(relation, seen("cat", Box.around(0.5 - dx, 0.5, 0.2, 0.2)), target, Rules()) is holds
    assert not stands(relation, seen("cat", Box.around(0.39, 0.5, 0.2, 0.2)), target, Rules(tolerance=0.0))


def test_behind_asks_who_is_hidden_where_the_detector_tells() -> None:
    relation, box = Relation("behind", 0, 1), RELATED["behind"][0]
    assert stands(relation, seen("cat", box, visible=0.7), seen("dog", A, visible=1.0), Rules())
    assert not stands(relation, seen("cat", box, visible=1.0), seen("dog", A, visible=0.7), Rules())
    assert stands(relation, seen("cat", box), seen("dog", A, visible=0.7), Rules())


def answers(found: list[list[Detection]]) -> tuple[Detector, np.ndarray]:
    """A detector for pictures whose first pixel is their number, and those pictures."""
    pictures = np.zeros((len(found), 4, 4, 3), dtype=np.uint8)
    pictures[:, 0, 0, 0] = np.arange(len(found))
    return (lambda batch: [tuple(found[i]) for i in batch[:, 0, 0, 0]]), pictures


def test_scene_accuracy_per_language_paired_on_the_same_layouts() -> None:
    layouts = [layout("cat")] * 10 + [layout("red ring")] * 10 + [layout("cat", "dog", relation=LEFT)] * 20
    right = [[seen("cat")]] * 10 + [[seen("red ring")]] * 10 + [[seen("cat"), seen("dog", "e")]] * 20
    worse = [list(d) for d in right]
    worse[0], worse[10], worse[11] = [], [seen("blue ring")], []
    worse[20:25] = [[seen("cat", "e"), seen("dog", "w")]] * 5
    detect, numbers = answers([*right, *worse])
    got = scene_accuracy(detect, {"en": numbers[:40], "zh": numbers[40:]}, layouts, batch_size=7)
    assert {k: (v.value, v.n) for k, v in got.accuracy["zh"].items()} == {
        "single": (0.9, 20), "colour": (0.8, 10), "position": (0.75, 20), "all": (pytest.approx(1 - 7.5 / 40), 40),
    }  # fmt: skip
    assert all(interval.value == 1.0 for interval in got.accuracy["en"].values())
    assert got.difference["zh"]["position"].value == pytest.approx(0.25)
    assert 0.05 <= got.difference["zh"]["position"].low < 0.25 < got.difference["zh"]["position"].high <= 0.5
    assert [i for i, mark in enumerate(got.verdicts["zh"]["colour"]) if mark is False] == [10, 11]
    again = scene_accuracy(detect, {"en": numbers[:40], "zh": numbers[40:]}, layouts)
    assert again == got

    shuffled = scene_accuracy(detect, {"en": numbers[:40]}, layouts[::-1])
    assert shuffled.accuracy["en"]["position"].value == 0.0

    table = render_table({"floor": shuffled, "model": got})
    lines = table.splitlines()
    assert len({len(line) for line in lines}) == 1
    cells = [cell.strip() for cell in lines[0].split("|")[1:-1]]
    assert cells == ["", "n", "floor en", "model en", "model zh", "model en − zh"]
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["single", "colour", "position", "all"]
    assert lines[3].split("|")[5].strip().startswith("0.800 [0.")
    record = json.loads(json.dumps(table_record({"model": got})))
    assert record["model"]["accuracy"]["zh"]["colour"]["value"] == 0.8
    assert record["model"]["difference"]["zh"]["colour"]["n"] == 10


def test_scene_accuracy_columns_are_those_promised() -> None:
    assert [column.name for column in COLUMNS] == ["single", "two", "three", "count", "colour", "position"]


def test_scene_accuracy_refuses_what_does_not_fit() -> None:
    detect, numbers = answers([[seen("cat")]] * 3)
    with pytest.raises(UsageError, match=r"uint8 \[2, H, W, 3\]"):
        scene_accuracy(detect, {"en": numbers}, [layout("cat")] * 2)
    with pytest.raises(UsageError, match="answered for 1"):
        scene_accuracy(lambda batch: [()], {"en": numbers}, [layout("cat")] * 3)
    with pytest.raises(UsageError, match="at least one layout"):
        scene_accuracy(detect, {}, [])
    nothing = replace(layout("cat"), things=())
    with pytest.raises(UsageError, match="None of the layouts"):
        scene_accuracy(detect, {"en": numbers}, [nothing] * 3)
