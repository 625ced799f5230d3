"""Pictures of one model by any named sampler, always from the same noise; how many calls and how long they take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import final

import torch
from torch import Tensor

from huggingvis.core.belief import Belief
from huggingvis.core.diffusion import Diffuses
from huggingvis.core.errors import UsageError
from huggingvis.core.noise import SeedNoise
from huggingvis.core.protocols import Cond, Denoiser, Guidance
from huggingvis.core.request import OWN, Canvas, Prompt, Request, Sampling
from huggingvis.core.shapes import check_finite
from huggingvis.core.system import System
from huggingvis.edits.generate import possible
from huggingvis.recipes.compared_cells import Made, Pace
from huggingvis.samplers.names import sampler_of, schedule_of

_CHUNK = 64


@final
class Drawing:
    """Pictures of one model by any sampler, always from the same noise."""

    def __init__(self, system: System, schedule: str | None, seed: int, prompts: Sequence[str]):
        self.system, self.prompts, self.seed = system, list(prompts), seed
        self.schedule = schedule or system.defaults.schedule

    @torch.inference_mode()
    def __call__(self, sampler: str, steps: int) -> Made:
        sampling: Sampling = replace(self.system.defaults, steps=steps, seed=self.seed)
        canvas = Canvas(count=len(self.prompts))
        requests = [possible(self.system, Request(Prompt(text), canvas, sampling)) for text in self.prompts]
        model = self.system.generator(requests[0])
        if not isinstance(model, Diffuses):
            name, kind = self.system.spec.name, type(model).__name__
            raise UsageError(f"{name!r} is a {kind}: it has no sampler to compare. Take a diffusion model.")
        # by name here and not through the request, so that models whose own limits are narrower are compared too
        diffusion, calls = model.diffusion, _Calls()
        outer: tuple[Guidance, ...] = (*diffusion.guidance, calls)  # a guidance may call the network more than once
        grid = diffusion.grid if self.schedule == OWN else schedule_of(self.schedule, steps)
        diffusion = replace(diffusion, sampler=sampler_of(sampler), grid=grid, guidance=outer)
        parts = []
        for i in range(0, len(requests), _CHUNK):
            some = requests[i : i + _CHUNK]
            cond = self.system.conditioner.prepare(self.system.conditioner(some))
            z = diffusion.sample(len(some), cond, noise=SeedNoise([self.seed + i + k for k in range(len(some))]))
            what = f"of {sampler} in {steps} steps"
            x = self.system.codec.decode(check_finite(z, f"The sample {what}"))  # [n, C, H, W]
            parts.append((z.float().cpu(), check_finite(x, f"The decoded sample {what}").float().cpu()))
        latents, pictures = zip(*parts, strict=True)
        return Made(torch.cat(latents), torch.cat(pictures), calls.count // len(parts))


class _Calls:
    """A guidance that changes nothing and counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, denoise: Denoiser) -> Denoiser:
        def counted(x: Tensor, t: Tensor, cond: Cond) -> Belief:
            self.count += 1
            return denoise(x, t, cond)

        return counted


def paced(drawing: Drawing) -> Pace:
    """Of a picture, measured on all of `drawing`."""
    drawing("euler", 1)  # the first is slower
    spent = []
    for steps in (1, 4):
        began = time.perf_counter()
        drawing("euler", steps)
        spent.append((time.perf_counter() - began) / len(drawing.prompts))
    call = max(spent[1] - spent[0], 0.0) / 3
    return Pace(call, max(spent[0] - call, 0.0))
