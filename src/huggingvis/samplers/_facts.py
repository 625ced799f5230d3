"""The table of samplers and schedules as records; what can be measured of a sampler is measured, not written down."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from huggingvis.core.belief import Belief, Gaussian
from huggingvis.core.errors import UsageError
from huggingvis.core.protocols import Cond, Step
from huggingvis.core.sample import Sampler, sample
from huggingvis.processes.ve import LinearVE
from huggingvis.processes.vp import LinearVP
from huggingvis.samplers.grids import LogSNR
from huggingvis.samplers.names import SAMPLERS, SCHEDULES


class _Draws:
    """Noise that counts how often it is asked for."""

    def __init__(self) -> None:
        self.count = 0

    def draw(self, like: Tensor) -> Tensor:
        self.count += 1
        return torch.zeros_like(like)


def calls_of(sampler: Sampler) -> tuple[int, bool]:
    """Network calls of a step in the middle of a grid, and whether the sampler draws noise."""
    calls, noise = [0], _Draws()

    def denoise(x: Tensor, t: Tensor, cond: Cond) -> Belief:
        calls[-1] += 1
        return Gaussian(torch.zeros_like(x))

    def next_step(step: Step) -> None:
        calls.append(0)

    process = LinearVP()
    x = torch.ones(1, 1, dtype=torch.float64)
    sample(denoise, process, sampler, x, LogSNR(8)(process), {}, noise=noise, on_step=next_step)
    return calls[6], noise.count > 0


def sampler_records() -> list[dict[str, Any]]:
    """A record for each named sampler: names, class, order, calls of a step, whether it draws noise, its test."""
    records = []
    for row in SAMPLERS:
        sampler = row.make(0.0)
        calls, stochastic = calls_of(sampler)
        names = {"name": row.name, "class": type(sampler).__name__, **_names(row.a1111, row.comfy, row.diffusers)}
        facts = {"order": sampler.order, "calls": calls, "stochastic": stochastic, "proof": row.proof}
        records.append({**names, **facts})
    return records


def schedule_records() -> list[dict[str, Any]]:
    """A record for each named schedule: names, class, whether it needs a noise table, its test."""
    records = []
    for row in SCHEDULES:
        schedule = row.make(10)
        names = {"name": row.name, "class": type(schedule).__name__, **_names(row.a1111, row.comfy, row.diffusers)}
        try:
            schedule(LinearVE(1000.0))  # reaches every published level
            tables = False
        except UsageError:
            tables = True
        records.append({**names, "tables_only": tables, "proof": row.proof})
    return records


def _names(a1111: tuple[str, ...], comfy: tuple[str, ...], diffusers: tuple[str, ...]) -> dict[str, list[str]]:
    return {"a1111": list(a1111), "comfyui": list(comfy), "diffusers": list(diffusers)}
