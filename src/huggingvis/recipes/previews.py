"""Sample grids while training: a callback that draws with the averaged weights and saves a contact sheet.

The noise is the same every time, so the sheets of a run, one after another, show one set of samples becoming better.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from torch import Tensor

from huggingvis.core.media import Picture
from huggingvis.core.protocols import OnStep
from huggingvis.export.grid import Sheet, contact_sheet
from huggingvis.export.image import save
from huggingvis.train.callbacks import TrainStep

Draw = Callable[[OnStep], Tensor]
"""Makes the pictures of a sheet; what it is given hears of each step of those that are made in steps."""


@final
@dataclass(frozen=True)
class Previews:
    """Every `every` steps (0: only at the end), `draw` gives [N, C, H, W] in [-1, 1] for samples/step-XXXXXXXX.png."""

    draw: Draw
    every: int = 500
    columns: int = 8

    def __call__(self, at: TrainStep) -> None:
        if not at.due(self.every):
            return
        at.tell("drawing samples")
        with at.averaged():
            images = self.draw(lambda step: at.tell(f"drawing samples, step {step.index + 1} of {step.total}"))
        shown = [Picture.from_signal(image) for image in images.float().cpu().numpy()]
        sheet = Sheet(columns=min(self.columns, len(images)), gap=2)
        save(contact_sheet(shown, sheet), at.run.samples / f"step-{at.step:08d}.png")
