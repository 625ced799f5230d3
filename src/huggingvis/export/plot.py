"""Curves on one picture: axes, ticks, a legend, straight or logarithmic; drawn with Pillow alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw

from huggingvis.core.errors import UsageError
from huggingvis.core.media import Picture
from huggingvis.export.lettering import Lettering

COLOURS = ((31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189), (255, 127, 14), (23, 190, 207),
           (140, 86, 75), (227, 119, 194), (90, 90, 90), (188, 189, 34))  # fmt: skip
"""Of curves in turn."""
_FINE = 3  # curves are drawn this much larger and reduced, so that their edges are smooth


@dataclass(frozen=True)
class Curve:
    """A named line through `points` (x, y); `marked` puts a dot on each."""

    label: str
    points: Sequence[tuple[float, float]]
    marked: bool = False


@dataclass(frozen=True)
class Axes:
    """What is written around a plot, and which axes are logarithmic. `size` in pixels."""

    title: str
    x: str
    y: str
    log_x: bool = False
    log_y: bool = False
    size: tuple[int, int] = (640, 400)
    lettering: Lettering = field(default_factory=Lettering)


def plot(curves: Sequence[Curve], axes: Axes) -> Picture:
    """The curves on one picture. Points that are not finite, or not positive on a logarithmic axis, are left out.

    Raises `UsageError` where no point is left.
    """
    kept = [_kept(curve, axes) for curve in curves]
    xs, ys = ([p[k] for points in kept for p in points] for k in (0, 1))
    if not xs:
        raise UsageError("There is nothing to plot: no curve has a point with finite numbers.")
    ranges = _range(xs, axes.log_x), _range(ys, axes.log_y)
    width, height = axes.size
    line = axes.lettering.set("0", width).line_height
    box = (5 * line, 2 * line, width - line, height - int(3.2 * line))
    image = Image.new("RGB", (width * _FINE, height * _FINE), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    ticks = _ticks(*ranges[0], axes.log_x), _ticks(*ranges[1], axes.log_y)

    def at(x: float, y: float) -> tuple[float, float]:
        """Pixels of a point."""
        (x0, x1), (y0, y1) = ranges
        return (
            box[0] + _share(x, x0, x1, axes.log_x) * (box[2] - box[0]),
            box[3] - _share(y, y0, y1, axes.log_y) * (box[3] - box[1]),
        )

    def stroke(points: Sequence[tuple[float, float]], ink: tuple[int, int, int], wide: float) -> None:
        draw.line([(x * _FINE, y * _FINE) for x, y in points], ink, round(wide * _FINE), joint="curve")

    for x in ticks[0]:
        stroke([at(x, ranges[1][0]), at(x, ranges[1][1])], (225, 225, 225), 1)
    for y in ticks[1]:
        stroke([at(ranges[0][0], y), at(ranges[0][1], y)], (225, 225, 225), 1)
    stroke([(box[0], box[1]), (box[0], box[3]), (box[2], box[3])], (60, 60, 60), 1)
    for curve, points, ink in zip(curves, kept, _inks(len(curves)), strict=True):
        spots = [at(*p) for p in points]
        if len(spots) > 1:
            stroke(spots, ink, 2)
        for x, y in spots if curve.marked else ():
            spot = [(x - 3) * _FINE, (y - 3) * _FINE, (x + 3) * _FINE, (y + 3) * _FINE]
            draw.ellipse(spot, ink)
    image = image.resize(axes.size, Image.Resampling.LANCZOS)
    _letter(image, curves, axes, box, [(at(x, ranges[1][0])[0], x) for x in ticks[0]],
            [(at(ranges[0][0], y)[1], y) for y in ticks[1]])  # fmt: skip
    return Picture.from_pil(image)


def _letter(
    image: Image.Image,
    curves: Sequence[Curve],
    axes: Axes,
    box: tuple[int, int, int, int],
    below: Sequence[tuple[float, float]],
    beside: Sequence[tuple[float, float]],
) -> None:
    draw = ImageDraw.Draw(image)

    def write(text: str, x: float, y: float, anchor: float, ink: tuple[int, int, int] = (32, 32, 32)) -> None:
        """`text` from x minus the share `anchor` of its width."""
        font, drawn = axes.lettering.drawable(text)
        draw.text((x - anchor * font.getlength(drawn), y), drawn, font=font, fill=ink)

    line = axes.lettering.set("0", 100).line_height
    write(axes.title, (box[0] + box[2]) / 2, 4, 0.5)
    write(axes.x, (box[0] + box[2]) / 2, box[3] + 1.5 * line, 0.5)
    write(axes.y, 4, 4, 0.0)
    for x, value in below:
        write(f"{value:g}", x, box[3] + 3, 0.5)
    for y, value in beside:
        write(f"{value:g}", box[0] - 5, y - line / 2, 1.0)
    for i, (curve, ink) in enumerate(zip(curves, _inks(len(curves)), strict=True)):
        write(curve.label, box[2] - 4, box[1] + 2 + i * line, 1.0, ink)


def _inks(count: int) -> list[tuple[int, int, int]]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


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
    """Round numbers between `low` and `high`: 1, 2 and 5 times powers of ten, powers alone over many of them."""
    if log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        marks = (1, 2, 5) if len(powers) <= 4 else (1,)
        return [m * 10.0**k for k in powers for m in marks if low <= m * 10.0**k <= high]
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (m * step) <= 6)
    return [round(k * step, 10) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
