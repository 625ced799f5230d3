"""Sample grids while training: a callback that draws with the averaged weights and saves a contact sheet.

The noise is the same every time, so the sheets of a run, one after another, show one set of samples becoming better.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from torch import Tensor

from huggingvis.core.media import Picture
from huggingvis.export.grid import Sheet, contact_sheet
from huggingvis.export.image import save
from huggingvis.train.callbacks import TrainStep


@final
@dataclass(frozen=True)
class Previews:
    """Every `every` steps (0: only at the end), `draw()` [N, C, H, W] in [-1, 1] goes to samples/step-XXXXXXXX.png."""

    draw: Callable[[], Tensor]
    every: int = 500
    columns: int = 8

    def __call__(self, at: TrainStep) -> None:
        if not at.due(self.every):
            return
        with at.averaged():
            images = self.draw().float().cpu().numpy()
        sheet = Sheet(columns=min(self.columns, len(images)), gap=2)
        picture = contact_sheet([Picture.from_signal(image) for image in images], sheet)
        save(picture, at.run.samples / f"step-{at.step:08d}.png")
