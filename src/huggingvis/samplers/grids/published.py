"""Align Your Steps: noise levels that were optimised once for a model and then published.

Sabour, Fidler, Kreis 2024, arXiv 2404.14507; the levels are those of its project page, for ten steps. Other numbers of
steps take them log-linearly interpolated, as the authors say. Book: chapter 4, "Grids".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch

from huggingvis.core.grid import Grid
from huggingvis.core.process import Process
from huggingvis.samplers.grids._common import check_steps, on_levels

SYSTEM = {
    "name": "Align Your Steps",
    "chapter": 4,
    "paper": "2404.14507",
    "files": ["samplers/grids/levels.py"],
    "built": "tests/walks/test_samplers_by_name.py::test_every_schedule_draws_from_a_run[align-your-steps]",
    "exact": [
        "tests/oracle/test_grids.py::test_align_your_steps",
        "tests/interop/test_sigma_schedules.py::test_align_your_steps",
    ],
    "trained": None,
    "explained": None,
    "usable": None,
}

SD1 = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)
SDXL = (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029)
SVD = (700.00, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002)


@final
@dataclass(frozen=True)
class AlignYourSteps:
    """The published `levels` at `steps` + 1 places, the last of which is clean data, as ComfyUI and diffusers do.

    `all_called`: at `steps` places, all of them called, and clean data after them, as A1111 does.
    """

    steps: int
    levels: tuple[float, ...] = SD1
    all_called: bool = False

    def __post_init__(self) -> None:
        check_steps(self.steps)

    def __call__(self, process: Process) -> Grid:
        places = self.steps if self.all_called else self.steps + 1
        way = np.linspace(0, 1, places)
        log_rho = np.interp(way, np.linspace(0, 1, len(self.levels)), np.log(self.levels))[: self.steps]
        return on_levels(process, torch.from_numpy(log_rho).exp(), 0.0)
