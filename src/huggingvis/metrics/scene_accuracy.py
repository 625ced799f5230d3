"""Does the picture contain what the prompt said? Measured by a detector, against the layout the prompt was made from.

After D. Ghosh, H. Hajishirzi, L. Schmidt, "GenEval: An Object-Focused Framework for Evaluating Text-to-Image
Alignment" (2023), arXiv 2310.11513, in six columns; a layout counts in every column that applies to it:

    single, two, three   every thing named is found; things beyond them are no error
    count                exactly as many as said are found
    colour               every thing whose colour is said is found in that colour, each by a detection of its own
    position             both things are found and stand in the relation said

"Scene accuracy" is the column's share of right layouts. It means something only beside its floor (shuffled captions)
and its ceiling (renders of the layouts themselves): both come from this same function. Book: chapter 9, "Judges".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from huggingvis.core.errors import UsageError
from huggingvis.core.layout import RELATIONS, Box, Layout, Relation, Thing
from huggingvis.metrics.bootstrap import Interval, bootstrap_mean, paired_difference


@dataclass(frozen=True, slots=True)
class Detection:
    """One thing found in a picture.

    `name` is a sprite's name and `colour` a colour word, both as layouts use them; `box` is (x, y, width, height) in
    [0, 1] with (x, y) the left upper corner; `score` in [0, 1]. `visible` is the share of the thing that nothing in
    front hides, None where the detector cannot tell: then `behind` is decided by boxes alone, whoever is in front.
    """

    name: str
    colour: str | None
    box: tuple[float, float, float, float]
    score: float
    visible: float | None = None

    @property
    def area(self) -> Box:
        x, y, width, height = self.box
        return Box(x, y, x + width, y + height)


Detections = tuple[Detection, ...]
Detector = Callable[[np.ndarray], list[Detections]]
"""Pictures uint8 [B, H, W, 3] -> what is found in each, B tuples."""


@dataclass(frozen=True)
class Rules:
    """What counts as found, and how far a found box may be off.

    `least_score`: detections below it do not count. `tolerance`, in canvases: a relation holds when the layouts' own
    predicate holds after moving, growing or shrinking one box by at most this much; without it, a picture right by a
    hair is lost to a detector wrong by a pixel.
    """

    least_score: float = 0.5
    tolerance: float = 0.03


@dataclass(frozen=True)
class Column:
    """One question: which layouts it `applies` to, and whether the detections answer it `right`."""

    name: str
    applies: Callable[[Layout], bool]
    right: Callable[[Layout, Detections, Rules], bool]


def all_found(layout: Layout, found: Detections, rules: Rules) -> bool:
    """Every named thing is there, with as many detections of a name as things have it."""
    return Counter(d.name for d in found) >= Counter(thing.sprite for thing in layout.things)


def count_exact(layout: Layout, found: Detections, rules: Rules) -> bool:
    """Of each name there are exactly as many as said; other names do not matter."""
    there = Counter(d.name for d in found)
    return all(there[name] == n for name, n in Counter(thing.sprite for thing in layout.things).items())


def colours_bound(layout: Layout, found: Detections, rules: Rules) -> bool:
    """Every (name, colour) said is there, as often as said."""
    said = Counter((thing.sprite, thing.colour) for thing in layout.things if thing.colour)
    return Counter((d.name, d.colour) for d in found) >= said


def relation_holds(layout: Layout, found: Detections, rules: Rules) -> bool:
    """Both things of the stated relation are found, and it holds between their boxes."""
    relation = layout.relation
    assert relation is not None  # `applies` saw to it
    subject = _found_as(layout.things[relation.subject], found)
    rest = tuple(d for d in found if d is not subject)
    target = _found_as(layout.things[relation.object], rest)
    return subject is not None and target is not None and stands(relation, subject, target, rules)


def stands(relation: Relation, subject: Detection, target: Detection, rules: Rules) -> bool:
    """Whether `relation` holds between two detections, within `rules.tolerance`.

    For `behind`, the subject must also be the one that is more hidden, where the detector tells.
    """
    if relation.kind == "behind" and not _more_hidden(subject, target):
        return False
    holds = RELATIONS[relation.kind]
    return any(holds(near, target.area) for near in _near(subject.area, rules.tolerance))


COLUMNS = (
    Column("single", lambda layout: layout.category == "single", all_found),
    Column("two", lambda layout: layout.category == "two", all_found),
    Column("three", lambda layout: layout.category == "three", all_found),
    Column("count", lambda layout: layout.category == "count", count_exact),
    Column("colour", lambda layout: any(thing.colour for thing in layout.things), colours_bound),
    Column("position", lambda layout: layout.relation is not None, relation_holds),
)
OVERALL = "all"
"""The name of the row over all columns: per layout, the share of the columns that apply which are right."""

Verdicts = Mapping[str, tuple[bool | None, ...]]
"""Per column, right or wrong for each layout; None where the column does not apply to it."""


@dataclass(frozen=True)
class SceneAccuracy:
    """Accuracy by language and column, with intervals; paired differences of the first language to each other one.

    `difference["zh"]["count"]` is first language minus Chinese on the same layouts. `verdicts[language]` says which
    layouts were right, for finding the pictures worth a look. Columns that apply to no layout are absent.
    """

    accuracy: Mapping[str, Mapping[str, Interval]]
    difference: Mapping[str, Mapping[str, Interval]]
    verdicts: Mapping[str, Verdicts]


def verdicts(layouts: Sequence[Layout], found: Sequence[Detections], rules: Rules) -> Verdicts:
    """Asks every column of every layout what the detections `found` in its picture say."""
    sure = [tuple(d for d in detections if d.score >= rules.least_score) for detections in found]
    return {
        column.name: tuple(
            column.right(layout, detections, rules) if column.applies(layout) else None
            for layout, detections in zip(layouts, sure, strict=True)
        )
        for column in COLUMNS
    }


def scene_accuracy(
    detect: Detector,
    pictures: Mapping[str, np.ndarray],
    layouts: Sequence[Layout],
    *,
    rules: Rules | None = None,
    batch_size: int = 64,
    seed: int = 0,
) -> SceneAccuracy:
    """Scores `pictures[language]`, uint8 [N, H, W, 3], picture i made from the caption of `layouts[i]` in it.

    Intervals are 95 % bootstrap intervals over layouts, drawn with `seed`. Raises `UsageError` for pictures that do
    not fit the layouts or a detector that does not answer for each.
    """
    rules = rules or Rules()
    if not layouts or not pictures:
        raise UsageError("Scene accuracy needs at least one layout and pictures in at least one language.")
    answers = {
        language: verdicts(layouts, _detect_all(detect, images, len(layouts), batch_size), rules)
        for language, images in pictures.items()
    }
    marks = {language: dict(_marks(answer)) for language, answer in answers.items()}
    first, *others = marks
    accuracy = {
        language: {name: bootstrap_mean(values, seed=seed) for name, values in columns.items()}
        for language, columns in marks.items()
    }
    difference = {
        other: {name: paired_difference(marks[first][name], marks[other][name], seed=seed) for name in marks[first]}
        for other in others
    }
    return SceneAccuracy(accuracy, difference, answers)


def _marks(answer: Verdicts) -> Iterator[tuple[str, np.ndarray]]:
    """(column, its 0 or 1 for each layout it applies to), then `OVERALL` with the mean over columns per layout."""
    table = np.array([[np.nan if mark is None else float(mark) for mark in marks] for marks in answer.values()])
    asked = ~np.isnan(table)  # [columns, N]
    for name, marks, applies in zip(answer, table, asked, strict=True):
        if applies.any():
            yield name, marks[applies]
    some = asked.any(0)
    if not some.any():
        raise UsageError(
            "None of the layouts belongs to a column of the table. They need one to three things, a count, a colour or "
            "a relation."
        )
    yield OVERALL, np.nanmean(table[:, some], axis=0)


def _detect_all(detect: Detector, images: np.ndarray, n: int, batch_size: int) -> list[Detections]:
    """Detections in all `images`, asked for in batches."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or len(images) != n:
        raise UsageError(
            f"Scene accuracy looks at one RGB picture per layout, uint8 [{n}, H, W, 3]; found {images.dtype} "
            f"{list(images.shape)}."
        )
    found: list[Detections] = []
    for start in range(0, n, batch_size):
        part = detect(images[start : start + batch_size])
        if len(part) != len(images[start : start + batch_size]):
            raise UsageError(
                f"The detector was shown {len(images[start : start + batch_size])} pictures and answered for "
                f"{len(part)}. It must return one tuple of detections per picture, empty where it finds nothing."
            )
        found.extend(part)
    return found


def _found_as(thing: Thing, found: Detections) -> Detection | None:
    """The detection to take `thing` for: of its name, in its colour before others, then the surest."""
    named = [d for d in found if d.name == thing.sprite]
    return max(named, key=lambda d: (thing.colour is not None and d.colour == thing.colour, d.score), default=None)


def _more_hidden(a: Detection, b: Detection) -> bool:
    """Whether less of `a` is visible than of `b`; true where the detector does not tell."""
    return a.visible is None or b.visible is None or a.visible < b.visible


def _near(box: Box, by: float) -> tuple[Box, ...]:
    """`box`, and it moved to each side, grown and shrunk `by` (a box narrower than that shrinks to its middle)."""
    cx, cy = box.centre
    width, height = box.width, box.height
    moved = ((cx - by, cy), (cx + by, cy), (cx, cy - by), (cx, cy + by))
    return (
        box,
        *(Box.around(x, y, width, height) for x, y in moved),
        Box.around(cx, cy, width + 2 * by, height + 2 * by),
        Box.around(cx, cy, max(0.0, width - 2 * by), max(0.0, height - 2 * by)),
    )
