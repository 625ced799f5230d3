"""A grid with one call less at its end: the last level above clean is left out.

What k-diffusion's users found for solvers that step twice or remember three times: the last level of a table is so low
that the step to it and the one from it to clean are wasted. A1111 does it for DPM2 and DPM++ 3M SDE ("discard
penultimate sigma"), ComfyUI for DPM2 and UniPC; both ask for one level more first. Book: chapter 4, "Grids".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch

from huggingvis.core.errors import UsageError
from huggingvis.core.grid import Grid
from huggingvis.core.process import Process
from huggingvis.samplers.grids._common import Schedule


@final
@dataclass(frozen=True)
class WithoutPenultimate:
    """The grid of `inner` without the time before its end."""

    inner: Schedule

    def __call__(self, process: Process) -> Grid:
        grid = self.inner(process)
        if len(grid) < 2:
            raise UsageError("A grid of one call has no level before its last to leave out. Ask for more steps.")
        times = torch.cat([grid.times[:-2], grid.times[-1:]])
        return Grid(times, None if grid.clocks is None else grid.clocks[:-1])
