"""Curves on one picture: axes, ticks, a legend, straight or logarithmic; drawn with Pillow alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from huggingvis.core.errors import UsageError
from huggingvis.core.media import Picture
from huggingvis.export.end_labels import EndLabels
from huggingvis.export.lettering import Lettering

COLOURS = ((31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189), (255, 127, 14), (23, 190, 207),
           (140, 86, 75), (227, 119, 194), (90, 90, 90), (188, 189, 34), (0, 110, 110), (160, 110, 20))  # fmt: skip
"""Of curves in turn."""
_FINE = 3  # curves are drawn this much larger and reduced, so that their edges are smooth
_FAINT = (222, 222, 222)
_GAP = 8  # pixels between two numbers of an axis
_DASH = 24  # a legend's piece of line, and the room after it


@dataclass(frozen=True)
class Curve:
    """A named line through `points` (x, y); `marked` puts a dot on each. `ink`: which of `COLOURS`, none: the next.

    `faint`: thin, grey and nameless, for what others are to be seen against.
    """

    label: str
    points: Sequence[tuple[float, float]]
    marked: bool = False
    ink: int | None = None
    faint: bool = False


@dataclass(frozen=True)
class Axes:
    """What is written around a plot, and which axes are logarithmic. `size` in pixels.

    `ends`: name curves at their right ends instead of in a legend.
    `x_ticks`: where x is marked; none: at round numbers. Marks whose numbers would run into those before are left out.
    """

    title: str
    x: str
    y: str
    log_x: bool = False
    log_y: bool = False
    x_ticks: tuple[float, ...] = ()
    size: tuple[int, int] = (640, 400)
    ends: bool = False
    lettering: Lettering = field(default_factory=Lettering)


def plot(curves: Sequence[Curve], axes: Axes) -> Picture:
    """The curves on one picture. Points that are not finite, or not positive on a logarithmic axis, are left out.

    The legend stands where no curve runs, or beside the axes where there is no such place. Raises `UsageError` where no
    point is left.
    """
    kept = [_kept(curve, axes) for curve in curves]
    xs, ys = ([p[k] for points in kept for p in points] for k in (0, 1))
    if not xs:
        raise UsageError("There is nothing to plot: no curve has a point with finite numbers.")
    width, height = axes.size
    line = axes.lettering.set("0", width).line_height
    box = (5 * line, 2 * line, width - line, height - int(3.2 * line))
    frame = _Frame(box, _range(xs, axes.log_x), _range(ys, axes.log_y), axes)
    named = [i for i, curve in enumerate(curves) if not curve.faint and kept[i]]
    ends = EndLabels.of([(curves[i].label, _inks(curves)[i]) for i in named] if axes.ends else (), axes.lettering)
    legend = _Legend.of([] if axes.ends else curves, axes)
    place = (0, 0) if axes.ends else legend.free(box, [frame.run(points) for points in kept])
    if axes.ends or place is None:
        frame = replace(frame, box=(*box[:2], box[2] - (ends.width if axes.ends else legend.width + 4), box[3]))
        place = (box[2] - legend.width, box[1])
    image = Image.new("RGB", (width * _FINE, height * _FINE), (255, 255, 255))
    _draw(ImageDraw.Draw(image), frame, curves, kept)
    image = image.resize(axes.size, Image.Resampling.LANCZOS)
    _letter(ImageDraw.Draw(image), frame)
    legend.write(ImageDraw.Draw(image), place)
    if axes.ends:
        ends.write(ImageDraw.Draw(image), [frame.at(*max(kept[i])) for i in named], frame.box)
    return Picture.from_pil(image)


@dataclass(frozen=True)
class _Frame:
    """Where the axes lie: `box` in pixels (left, top, right, bottom), and the numbers along them."""

    box: tuple[int, int, int, int]
    x: tuple[float, float]
    y: tuple[float, float]
    axes: Axes

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a point."""
        left, top, right, bottom = self.box
        return (
            left + _share(x, *self.x, self.axes.log_x) * (right - left),
            bottom - _share(y, *self.y, self.axes.log_y) * (bottom - top),
        )

    def run(self, points: Sequence[tuple[float, float]]) -> np.ndarray:
        """The pixels that the line through `points` runs over, [N, 2], at most two apart."""
        spots = np.array([self.at(*p) for p in points]).reshape(-1, 2)
        parts = [spots]
        for here, there in pairwise(spots):
            way = np.linspace(0, 1, 2 + int(np.abs(there - here).max() / 2))[:, None]
            parts.append(here + way * (there - here))
        return np.concatenate(parts)

    def ticks(self) -> tuple[list[float], list[float]]:
        asked = [x for x in sorted(self.axes.x_ticks) if self.x[0] <= x <= self.x[1]]
        return self._apart(asked or _ticks(*self.x, self.axes.log_x)), _ticks(*self.y, self.axes.log_y)

    def _apart(self, marks: Sequence[float]) -> list[float]:
        """The x marks whose numbers have room: the last one, and from the left each that is clear of the others."""
        kept: list[float] = []
        for x in marks:
            if all(self._clear(x, other) for other in {*kept[-1:], marks[-1]} - {x}):
                kept.append(x)
        return kept

    def _clear(self, x: float, other: float) -> bool:
        letters = self.axes.lettering
        wide = sum(letters.drawable(f"{n:g}")[0].getlength(f"{n:g}") for n in (x, other)) / 2
        return abs(self.at(x, self.y[0])[0] - self.at(other, self.y[0])[0]) >= wide + _GAP


@dataclass(frozen=True)
class _Legend:
    """The names of the curves in their inks, one below the other."""

    labels: tuple[tuple[str, tuple[int, int, int]], ...]
    width: int
    line: int
    lettering: Lettering

    @classmethod
    def of(cls, curves: Sequence[Curve], axes: Axes) -> _Legend:
        lines = [axes.lettering.set(curve.label, axes.size[0]) for curve in curves]
        labels = tuple(zip((curve.label for curve in curves), _inks(curves), strict=True))
        height = axes.lettering.set("0", axes.size[0]).line_height
        return cls(labels, _DASH + max((line.width for line in lines), default=0), height, axes.lettering)

    def free(self, box: tuple[int, int, int, int], runs: Sequence[np.ndarray]) -> tuple[int, int] | None:
        """The top left of a place in `box` that no line runs through: a corner if one is free, else any, else None."""
        spots, height = np.concatenate(runs), self.line * len(self.labels)
        left, top, right, bottom = (n + d for n, d in zip(box, (8, 4, -6 - self.width, -6 - height), strict=True))
        columns, rows = (list(range(a, b + 1, 6)) for a, b in ((left, right), (top, bottom)))
        corners = [(x, y) for y in (top, bottom) for x in (right, left)]
        for x, y in [*corners, *((x, y) for y in rows for x in columns)] if columns and rows else ():
            clear = (spots < (x - 5, y - 3)) | (spots > (x + self.width + 5, y + height + 3))
            if bool(clear.any(1).all()):
                return x, y
        return None

    def write(self, draw: ImageDraw.ImageDraw, place: tuple[int, int]) -> None:
        x, y = place
        for label, ink in self.labels:
            font, drawn = self.lettering.drawable(label)
            draw.line([(x, y + self.line / 2), (x + _DASH - 6, y + self.line / 2)], ink, 2)
            draw.text((x + _DASH, y), drawn, font=font, fill=ink)
            y += self.line


def _draw(
    draw: ImageDraw.ImageDraw, frame: _Frame, curves: Sequence[Curve], kept: Sequence[Sequence[tuple[float, float]]]
) -> None:
    """Grid, axes and curves, `_FINE` times as large as they are to be."""
    left, top, right, bottom = frame.box

    def stroke(points: Sequence[tuple[float, float]], ink: tuple[int, int, int], wide: float) -> None:
        draw.line([(x * _FINE, y * _FINE) for x, y in points], ink, round(wide * _FINE), joint="curve")

    for x in frame.ticks()[0]:
        stroke([(frame.at(x, frame.y[0])[0], y) for y in (bottom, top)], (225, 225, 225), 1)
    for y in frame.ticks()[1]:
        stroke([(x, frame.at(frame.x[0], y)[1]) for x in (left, right)], (225, 225, 225), 1)
    stroke([(left, top), (left, bottom), (right, bottom)], (60, 60, 60), 1)
    for curve, points, ink in zip(curves, kept, _inks(curves), strict=True):
        spots = [frame.at(*p) for p in points]
        if len(spots) > 1:
            stroke(spots, ink, 1 if curve.faint else 2)
        for x, y in spots if curve.marked else ():
            draw.ellipse([(x - 3) * _FINE, (y - 3) * _FINE, (x + 3) * _FINE, (y + 3) * _FINE], ink)


def _letter(draw: ImageDraw.ImageDraw, frame: _Frame) -> None:
    """Titles and the numbers along the axes."""
    axes, (left, _, right, bottom) = frame.axes, frame.box
    line = axes.lettering.set("0", 100).line_height

    def write(text: str, x: float, y: float, anchor: float) -> None:
        """`text` from x minus the share `anchor` of its width."""
        font, drawn = axes.lettering.drawable(text)
        draw.text((x - anchor * font.getlength(drawn), y), drawn, font=font, fill=(32, 32, 32))

    write(axes.title, (left + right) / 2, 4, 0.5)
    write(axes.x, (left + right) / 2, bottom + 1.5 * line, 0.5)
    write(axes.y, 4, 4, 0.0)
    for x in frame.ticks()[0]:
        write(f"{x:g}", frame.at(x, frame.y[0])[0], bottom + 3, 0.5)
    for y in frame.ticks()[1]:
        write(f"{y:g}", left - 5, frame.at(frame.x[0], y)[1] - line / 2, 1.0)


def _inks(curves: Sequence[Curve]) -> list[tuple[int, int, int]]:
    inks = [COLOURS[(i if curve.ink is None else curve.ink) % len(COLOURS)] for i, curve in enumerate(curves)]
    return [_FAINT if curve.faint else ink for curve, ink in zip(curves, inks, strict=True)]


def _kept(curve: Curve, axes: Axes) -> list[tuple[float, float]]:
    def shown(value: float, log: bool) -> bool:
        return math.isfinite(value) and (value > 0 or not log)

    return [(x, y) for x, y in curve.points if shown(x, axes.log_x) and shown(y, axes.log_y)]


def _range(values: Sequence[float], log: bool) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        return (low / 2, high * 2) if log else (low - 1, high + 1)
    if log:
        room = (high / low) ** 0.04
        return low / room, high * room
    room = 0.04 * (high - low)
    return low - room, high + room


def _share(value: float, low: float, high: float, log: bool) -> float:
    if log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def _ticks(low: float, high: float, log: bool) -> list[float]:
    """Round numbers between `low` and `high`: 1, 2 and 5 times powers of ten, powers alone over many of them.

    Within so short a logarithmic axis that it holds less than three such numbers, as on a straight one.
    """
    if log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        marks = (1, 2, 5) if len(powers) <= 4 else (1,)
        found = [m * 10.0**k for k in powers for m in marks if low <= m * 10.0**k <= high]
        if len(found) > 2:
            return found
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (m * step) <= 6)
    return [round(k * step, 10) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
