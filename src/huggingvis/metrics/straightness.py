r"""How straight the paths of a flow are, and how far they go.

Liu, Gong, Liu 2022, "Flow Straight and Fast" (arXiv 2209.03003, Sec. 2 and Theorem 3.5): for a path z_t of the
probability-flow ODE from noise z_1 to a sample z_0,

    S = int_0^1 E || (z_1 - z_0) - dz_t/dt ||^2 dt,        c = E || z_1 - z_0 ||^2

S = 0 where every path is a straight line walked at even speed: there one Euler step is exact. Reflow lowers S and never
raises c. Book: chapter 4, "Rectified flow".
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from huggingvis.core.belief import Gaussian
from huggingvis.core.errors import UsageError
from huggingvis.core.grid import Grid
from huggingvis.core.noise import ReplayNoise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Cond, Denoiser, Step
from huggingvis.core.sample import sample
from huggingvis.core.sampler import Sampler


class Paths(NamedTuple):
    """What became of a batch of noise: samples, and the S and the c of each path, in squared units of the data."""

    end: Tensor  # [B, ...]
    straightness: Tensor  # [B]
    transport: Tensor  # [B]


def walk(denoise: Denoiser, process: Process, sampler: Sampler, x: Tensor, grid: Grid, cond: Cond) -> Paths:
    """From `x` [B, ...] at the grid's first time to its last, by a sampler that draws no noise.

    S is a sum over the steps, with the velocity at the start of each: off by O(1/steps). Raises `UsageError` for
    beliefs about discrete data and `ValueError` for a sampler that draws noise.
    """
    at, found, lengths = x, list[Tensor](), list[float]()

    def hear(step: Step) -> None:
        nonlocal at
        if not isinstance(step.belief, Gaussian):
            raise UsageError("Only a model of continuous data has paths that can be straight; this one's are discrete.")
        t = torch.tensor(step.t, dtype=torch.float64)
        found.append(process.velocity(at, step.belief.x0, t))  # [B, ...]
        lengths.append(step.t - step.s)
        at = step.x

    end = sample(denoise, process, sampler, x, grid, cond, noise=ReplayNoise([]), on_step=hear)
    whole = sum(lengths)
    mean = (x - end) / whole  # [B, ...], dx/dt of the straight way
    bent = torch.stack([h / whole * _squares(mean - v) for h, v in zip(lengths, found, strict=True)]).sum(0)  # [B]
    return Paths(end, bent, _squares(x - end))


def _squares(x: Tensor) -> Tensor:
    return x.square().flatten(1).sum(1)  # [B]
