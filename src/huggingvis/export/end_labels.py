"""The names of curves beside their right ends: many curves on one plot can be told apart without a legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import ImageDraw

from huggingvis.export.lettering import Lettering

Ink = tuple[int, int, int]
_LEAD = 16  # pixels between the axes and the names, where a thin line leads from one to the other


@dataclass(frozen=True)
class EndLabels:
    """`labels`: names with their inks, one for each end."""

    labels: tuple[tuple[str, Ink], ...]
    lettering: Lettering
    line: int

    @classmethod
    def of(cls, labels: Sequence[tuple[str, Ink]], lettering: Lettering) -> EndLabels:
        return cls(tuple(labels), lettering, lettering.set("0", 100).line_height)

    @property
    def width(self) -> int:
        """What they need beside the axes."""
        widest = max((self.lettering.set(label, 10_000).width for label, _ in self.labels), default=0)
        return _LEAD + widest + 4

    def write(self, draw: ImageDraw.ImageDraw, ends: Sequence[tuple[float, float]], box: Sequence[int]) -> None:
        """At the right of `box` (left, top, right, bottom), each as near to the height of its end as there is room."""
        _, top, right, bottom = box
        heights = apart([y for _, y in ends], self.line, top, bottom)
        for (label, ink), (x, y), height in zip(self.labels, ends, heights, strict=True):
            font, drawn = self.lettering.drawable(label)
            pale = tuple((c + 2 * 255) // 3 for c in ink)
            draw.line([(x + 4, y), (right, y), (right + _LEAD - 4, height)], pale, 1)
            draw.text((right + _LEAD, height - self.line / 2), drawn, font=font, fill=ink)


def apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places near the `wanted` ones, in their order and at least `gap` apart, between `low` and `high` if they fit.

    Neighbours that would touch are put around the mean of what they want.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    groups: list[tuple[float, int]] = []  # (mean of what its members want, how many they are)
    for i in order:
        mean, size = min(max(wanted[i], low), high), 1
        while groups and mean - groups[-1][0] < gap * (size + groups[-1][1]) / 2:
            other, n = groups.pop()
            mean, size = (mean * size + other * n) / (size + n), size + n
            half = gap * (size - 1) / 2
            mean = max(min(mean, high - half), low + half)
        groups.append((mean, size))
    places = [mean + gap * (k - (size - 1) / 2) for mean, size in groups for k in range(size)]
    found = [0.0] * len(wanted)
    for i, place in zip(order, places, strict=True):
        found[i] = place
    return found
