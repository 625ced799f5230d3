"""Whether things go on inside a hole that was filled in a picture, where the whole picture is known.

A filled hole need not equal the truth to be good, but what it cuts in two leaves no choice: half a fox goes on as that
fox. So of the things that a hole cuts, we ask whether a detector finds each where it truly is, in its name and colour.
Book: chapter 6, "Inpainting".
"""

from __future__ import annotations

import numpy as np

from huggingvis.core.layout import Box, Layout
from huggingvis.metrics.scene_accuracy import Detections


def cut_things(masks: np.ndarray, hole: np.ndarray, least: float = 0.2) -> tuple[int, ...]:
    """Which things, of visible masks [n, H, W], a hole cuts: at least the share `least` is in it, and out of it."""
    inside = (masks & hole).sum((1, 2)) / np.maximum(1, masks.sum((1, 2)))
    return tuple(int(i) for i in np.flatnonzero((inside >= least) & (inside <= 1 - least)))


def continued(layout: Layout, index: int, found: Detections, least: float = 0.5) -> bool:
    """Whether thing `index` is among the detections: its name, its colour, and a box whose overlap (intersection over
    union) with the true one is at least `least`."""
    thing = layout.things[index]
    return any(
        d.name == thing.sprite and d.colour == thing.colour and _union_overlap(d.area, thing.box) >= least
        for d in found
    )


def _union_overlap(a: Box, b: Box) -> float:
    width = max(0.0, min(a.x1, b.x1) - max(a.x0, b.x0))
    height = max(0.0, min(a.y1, b.y1) - max(a.y0, b.y0))
    both = width * height
    return both / max(1e-12, a.width * a.height + b.width * b.height - both)
