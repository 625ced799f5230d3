"""The course of a chain as a picture: data on their way to noise, and noise on its way back, side by side.

As the first figures of Sohl-Dickstein et al. 2015 (arXiv 1503.03585, Fig. 1 and 2). A sample is a whole crowd of points
or words, so that one picture shows their law. Book: chapter 4, "The first diffusion".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from huggingvis.core.media import Picture
from huggingvis.core.noise import Noise
from huggingvis.core.protocols import OnStep, Step
from huggingvis.export.grid import Sheet, contact_sheet

TIMES = (0.0, 0.25, 0.5, 0.75, 1.0)
ROWS = ("forward: the data", "reverse: the model")
_FINE = 4  # points are drawn this much larger and reduced


class Noises(Protocol):
    """A process of numbers or of classes."""

    def add_noise(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor: ...


class Walks(Protocol):
    """A model that is sampled step by step."""

    def sample(self, n: int, cond: Mapping[str, Tensor], *, noise: Noise, on_step: OnStep | None = None) -> Tensor: ...


@final
@dataclass(frozen=True)
class Course:
    """Draws the pictures of a chain: `model` and `process` of crowds like `data`, each state shown by `panel`."""

    model: Walks
    process: Noises
    data: Tensor
    panel: Callable[[Tensor], Picture]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the pictures, [3, H, W]."""
        _, height, width = self._sheet([self.data] * 2 * len(TIMES)).shape
        return 3, height, width

    def sample(self, n: int, cond: Mapping[str, Tensor], *, noise: Noise, on_step: OnStep | None = None) -> Tensor:
        """`n` pictures [n, 3, H, W] in [-1, 1]."""
        kept: dict[float, Tensor] = {}

        def watch(step: Step) -> None:
            for t in TIMES:
                if step.s <= t and t not in kept:
                    kept[t] = step.x
            if on_step is not None:
                on_step(step)

        data = self.data.expand(n, *self.data.shape)
        times = [torch.full((), t, dtype=torch.float64) for t in TIMES]
        forward = [self.process.add_noise(data, noise.draw(data), t) if t > 0 else data for t in times]
        last = self.model.sample(n, cond, noise=noise, on_step=watch)
        reverse = [last, *(kept[t] for t in TIMES[1:])]
        return torch.stack([self._sheet([x[i] for x in (*forward, *reverse)]) for i in range(n)])

    def _sheet(self, states: list[Tensor]) -> Tensor:
        pictures = [self.panel(state.cpu()) for state in states]
        labels = tuple(f"t = {t:g}" for t in TIMES)
        sheet = contact_sheet(pictures, Sheet(row_labels=ROWS, column_labels=labels))
        return torch.from_numpy(sheet.to_signal())


def scatter(points: Tensor, side: int = 160, reach: float = 2.6) -> Picture:
    """Points [2, N] as dots on a square that shows [-`reach`, `reach`] both ways."""
    fine = side * _FINE
    x, y = ((points[i].double().numpy() / reach + 1) / 2 * fine for i in (0, 1))
    ink = np.full((fine, fine), 255, np.uint8)
    for dx in range(_FINE + 1):
        for dy in range(_FINE + 1):
            column, row = np.floor(x).astype(int) + dx, fine - 1 - np.floor(y).astype(int) + dy
            inside = (column >= 0) & (column < fine) & (row >= 0) & (row < fine)
            ink[row[inside], column[inside]] = 30
    ink[[0, -1], :] = ink[:, [0, -1]] = 150
    return Picture.from_pil(Image.fromarray(ink).resize((side, side), Image.Resampling.LANCZOS))


def raster(words: Tensor, cell: int = 6) -> Picture:
    """Words of bits [N, L], one a row, a 1 dark."""
    bits = np.where(words.numpy() > 0, 40, 235).astype(np.uint8)
    return Picture(np.kron(bits, np.ones((cell, cell), np.uint8)))
