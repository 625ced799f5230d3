"""Pictures of one model by any named sampler, always from the same noise; how many calls and how long they take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import final

import torch
from torch import Tensor

from huggingvis.core.belief import Belief
from huggingvis.core.diffusion import Diffuses, Diffusion
from huggingvis.core.errors import UsageError
from huggingvis.core.noise import SeedNoise
from huggingvis.core.protocols import Cond, Denoiser, Guidance
from huggingvis.core.request import OWN, Canvas, Prompt, Request, Sampling
from huggingvis.core.shapes import check_finite
from huggingvis.core.system import System
from huggingvis.edits.generate import possible
from huggingvis.recipes.compared_cells import Made, Pace
from huggingvis.samplers.names import sampler_of, schedule_name, schedule_of, split_label

_CHUNK = 64


@final
class Drawing:
    """Pictures of one model by any sampler, always from the same noise."""

    def __init__(self, system: System, schedule: str | None, seed: int, prompts: Sequence[str]):
        self.system, self.prompts, self.seed = system, list(prompts), seed
        self.schedule = schedule_name(schedule) if schedule else system.defaults.schedule

    def model(self, sampler: str, steps: int) -> Diffusion:
        """What draws by `sampler`, as a request for it gets it. Raises `UsageError` for what the model cannot do."""
        model = self.system.generator(self._request(self.prompts[0], sampler, steps))
        if not isinstance(model, Diffuses):
            name, kind = self.system.spec.name, type(model).__name__
            raise UsageError(f"{name!r} is a {kind}: it has no sampler to compare. Take a diffusion model.")
        if self._knows(sampler):
            return model.diffusion
        # by name and not through the request, so that models whose own limits are narrower are compared too
        grid = model.diffusion.grid if self.schedule == OWN else schedule_of(self.schedule, steps)
        return replace(model.diffusion, sampler=sampler_of(sampler), grid=grid)

    @torch.inference_mode()
    def __call__(self, sampler: str, steps: int) -> Made:
        diffusion, calls = self.model(sampler, steps), _Calls()
        outer: tuple[Guidance, ...] = (*diffusion.guidance, calls)  # a guidance may call the network more than once
        diffusion = replace(diffusion, guidance=outer)
        requests = [self._request(text, sampler, steps) for text in self.prompts]
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

    def _request(self, text: str, sampler: str, steps: int) -> Request:
        """As the model usually draws where it does not know the sampler or the schedule."""
        asked: Sampling = replace(self.system.defaults, steps=steps, seed=self.seed)
        if self._knows(sampler):
            asked = replace(asked, sampler=self._called(sampler), schedule=self.schedule)
        return possible(self.system, Request(Prompt(text), Canvas(count=len(self.prompts)), asked))

    def _called(self, sampler: str) -> str:
        return sampler if sampler in self.system.limits.samplers else split_label(sampler)[0]

    def _knows(self, sampler: str) -> bool:
        limits = self.system.limits
        return self._called(sampler) in limits.samplers and self.schedule in limits.schedules


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
