"""Schedulers of diffusers for nets that tell a flow's velocity: the setting `use_flow_sigmas` of those with a history.

Their noise levels are then times of a rectified flow (Liu, Gong, Liu 2022, arXiv 2209.03003), shifted as in Esser et
al. 2024 (arXiv 2403.03206), Eq. 23; the network is told what stands before the point of T t. Book: chapter 5,
"Checkpoints".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch

from huggingvis.checkpoints.diffusers_common import Json, unsupported
from huggingvis.core.grid import Grid
from huggingvis.core.process import Process
from huggingvis.processes.flow import RectifiedFlow

ASKED, PREDICTED = "use_flow_sigmas", "flow_prediction"
FROM_NOISE = ("UniPCMultistepScheduler",)
"""Classes whose first call is at pure noise; of the others it is one step of the table short of that."""
LEAVING_NOISE = ("DEISMultistepScheduler",)
"""Classes that end at the noise level of their last call."""
ALMOST = 1 - 1e-6
"""Pure noise, of which a logarithm can be taken."""
_OF_NOISE = {"algorithm_type": ("dpmsolver", "sde-dpmsolver", "noise_prediction"), "predict_x0": (False,)}


@final
@dataclass(frozen=True)
class FlowLevels:
    """Even times from `first` down to 0 or, on the way from pure noise, to 1/T, moved by `shift`; without the last.

    `clean_end`: end at clean data, else with the last call.
    """

    steps: int
    train_steps: int
    shift: float = 1.0
    from_noise: bool = False
    clean_end: bool = True

    def __call__(self, process: Process) -> Grid:
        knot = 1.0 / self.train_steps
        first, end = (1.0, knot) if self.from_noise else (1.0 - knot, 0.0)
        t = torch.linspace(first, end, self.steps + 1, dtype=torch.float64)[:-1]
        t = (self.shift * t / (1 + (self.shift - 1) * t)).clamp(max=ALMOST)  # [N]
        times = torch.cat([t, torch.zeros_like(t[:1]) if self.clean_end else t[-1:]])
        return Grid(times, (self.train_steps * t + 1e-6).floor())  # a whole number is not cut


def flow_of(full: Json) -> RectifiedFlow:
    """The process of completed settings that ask for a flow. Raises `FileProblem` for what no flow of ours is."""
    if full["prediction_type"] != PREDICTED:
        raise unsupported("prediction_type", full["prediction_type"], f'"{PREDICTED}" beside {ASKED}')
    for key, values in _OF_NOISE.items():
        if full.get(key) in values:
            raise unsupported(key, full[key], f"settings that go by the datum beside {ASKED}")
    if full["flow_shift"] <= 0:
        raise unsupported("flow_shift", full["flow_shift"], "positive numbers")
    return RectifiedFlow(float(full["num_train_timesteps"]))


def flow_levels(full: Json, steps: int, clean_end: bool) -> FlowLevels:
    """The grid of completed settings that ask for a flow. Raises `FileProblem`."""
    name = full["_class_name"]
    if not clean_end and name not in LEAVING_NOISE:  # a level of their table, which a flow has not
        raise unsupported("final_sigmas_type", full["final_sigmas_type"], f'"zero" beside {ASKED}')
    return FlowLevels(steps, full["num_train_timesteps"], full["flow_shift"], name in FROM_NOISE, clean_end)
