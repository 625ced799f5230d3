r"""A second pass at a larger size, which the community calls hires fix: enlarge, noise part of the way, undo.

A net knows how things are composed at the size it was trained on, so the picture is composed there, enlarged (as
latents, or as pixels and encoded again) and worked out at its final size by image-to-image (Meng et al. 2021, "SDEdit",
arXiv 2108.01073). Steps are counted as AUTOMATIC1111's web UI counts them: n steps at strength s are the last n of

    N = floor(n / min(s, 0.999))

so that n are made whatever the strength. The noise is that of the seed, at the larger size: by hand, image-to-image of
the saved and enlarged picture with the same seed. Book: chapter 6, "A second pass".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from huggingvis.codecs.prompt_passes import in_second_pass
from huggingvis.codecs.prompt_script import Steps
from huggingvis.core.diffusion import Diffuses
from huggingvis.core.errors import UsageError
from huggingvis.core.grid import Grid
from huggingvis.core.media import Picture
from huggingvis.core.noise import Noise, Replayed
from huggingvis.core.protocols import Cond, Encodes
from huggingvis.core.request import Limits, Refine, Request
from huggingvis.core.system import System, canvas_of
from huggingvis.core.upscalers import Upscaler, upscaler_of
from huggingvis.edits.task import Task

SYSTEM = {
    "name": "Hires fix (second pass)",
    "chapter": 6,
    "paper": "2108.01073",
    "files": ["core/upscalers.py", "core/request_sizes.py", "edits/generate.py", "codecs/prompt_passes.py"],
    "built": "tests/walks/test_large_pictures.py::test_a_second_pass_of_the_shipped_model",
    "exact": ["tests/interop/test_large_pictures.py::test_a_second_pass_is_two_requests"],
    "trained": None,
    "explained": None,
    "usable": None,
}

NEARLY_ONE = 0.999
"""The largest strength that steps are counted by."""


def first(request: Request) -> Request:
    """The request of the first pass; a second model acts in the second, where there is one."""
    return request if request.refine is None else replace(request, refine=None, refiner=None)


def second(system: System, request: Request) -> Request:
    """The request of the second pass. Raises `UsageError` for a size that the system cannot make."""
    how, own = request.refine, request.sampling
    assert how is not None
    width, height = size_of(how, canvas_of(request, system.spec), system.limits)
    sampling = replace(
        own,
        sampler=how.sampler or own.sampler,
        schedule=how.schedule or own.schedule,
        steps=walked(how, system.limits),
        guidance_scale=own.guidance_scale if how.guidance_scale is None else how.guidance_scale,
    )
    passes = Steps(how.steps, before=own.steps)
    text = request.prompt.text if how.prompt is None else how.prompt
    negative = request.prompt.negative if how.negative is None else how.negative
    prompt = replace(
        request.prompt,
        text=in_second_pass(text, passes),
        negative=in_second_pass(negative, passes, negative=True),
    )
    canvas = replace(request.canvas, width=width, height=height)
    return replace(request, prompt=prompt, canvas=canvas, sampling=sampling, source=None, refine=None)


def size_of(how: Refine, size: tuple[int, int], limits: Limits) -> tuple[int, int]:
    """(width, height) of the second pass, in whole multiples of what the system makes. Raises `UsageError`."""
    scale = how.scale
    if how.width is not None or how.height is not None:
        scale = max((new or 0) / old for new, old in zip((how.width, how.height), size, strict=True))
    multiple = limits.multiple
    near = [max(multiple, multiple * math.floor(side * scale / multiple + 0.5)) for side in size]
    width, height = how.width or near[0], how.height or near[1]
    if max(width, height) > limits.side:
        raise UsageError(
            f"The second pass would be of {width}x{height} pixels, but this model makes at most {limits.side} a side. "
            f"The first is of {size[0]}x{size[1]}: ask for less with refine.scale, refine.width or refine.height."
        )
    return width, height


def walked(how: Refine, limits: Limits) -> int:
    """Steps of the walk whose end the second pass is. Raises `UsageError` where they are too many."""
    if how.strength == 0.0:
        return how.steps
    steps = int(how.steps / min(how.strength, NEARLY_ONE))
    if steps > limits.steps:
        raise UsageError(
            f"{how.steps} steps at strength {how.strength:g} are the end of a walk of {steps:,}, but at most "
            f"{limits.steps:,} are possible. Ask for fewer steps or more strength."
        )
    return steps


def walked_of(how: Refine) -> Callable[[Grid], Grid]:
    """The part of a grid that the second pass walks."""
    return lambda grid: _last(grid, how.steps)


@final
@dataclass
class Once:
    """What a prompt leaves open, such as a plan of the picture, is drawn in the first pass and kept for the second.

    What the second asks for beyond that, for a prompt of its own, is drawn afresh.
    """

    draws: tuple[Tensor, ...] = ()

    def __call__(self, task: Task) -> Task:
        """The task, whose model's prior draws what it drew before."""
        if not isinstance(task.generator, Diffuses) or task.generator.diffusion.prior is None:
            return task
        model, prior = task.generator.diffusion, task.generator.diffusion.prior

        def drawn(cond: Cond, noise: Noise) -> Cond:
            kept = Replayed(noise, self.draws)
            told = prior(cond, kept)
            self.draws = tuple(kept.draws)
            return told

        return replace(task, generator=replace(model, prior=drawn))


@final
@dataclass(frozen=True)
class Again:
    """The second pass over the latents `z` [n, C, h, w] of the first."""

    z: Tensor
    how: Refine

    def __call__(self, task: Task) -> Tensor:
        z = enlarged(task, self.z, upscaler_of(self.how.upscaler), by_chance=self.how.strength > 0.0)
        if self.how.strength == 0.0:
            return z
        model = task.model
        try:
            grid = model.grid(model.process.pace)
        except UsageError as error:
            raise UsageError(
                f"{self.how.steps} steps at strength {self.how.strength:g} are the end of a walk of "
                f"{task.request.sampling.steps}. {error} Or ask for more strength in the second pass."
            ) from error
        grid = _last(grid, self.how.steps)
        x = model.process.add_noise(z, task.noise.draw(z), grid.times[0])
        return task.walk(x, grid, model.condition(task.cond, task.noise))


def enlarged(task: Task, z: Tensor, upscaler: Upscaler, *, by_chance: bool = True) -> Tensor:
    """Latents [n, C, h', w'] for the task's canvas, which they cover; what stands out is cut off on both sides."""
    width, height = task.size
    if upscaler.latent:
        factor = height // task.model.shape[-2]
        w, h = width // factor, height // factor
        wide, high = covering((z.shape[-1], z.shape[-2]), (w, h))
        z = F.interpolate(z, (high, wide), mode=upscaler.mode, antialias=upscaler.smooth)
        left, top = (wide - w) // 2, (high - h) // 2
        return z[:, :, top : top + h, left : left + w]
    x = task.system.codec.decode(z).float().cpu().numpy()  # [n, C, H, W]
    shown = [_resized(Picture.from_signal(one), (width, height), upscaler).to_signal() for one in x]
    new = torch.stack([torch.from_numpy(one) for one in shown]).to(task.system.device)
    codec = task.system.codec
    assert isinstance(codec, Encodes)  # `check_sizes` says so
    return task.encode(new) if by_chance else codec.encode(new)


def covering(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """The least size of the shape of `size` that covers `target`."""
    across = target[0] * size[1] >= target[1] * size[0]
    if across:
        return target[0], max(target[1], math.ceil(target[0] * size[1] / size[0]))
    return max(target[0], math.ceil(target[1] * size[0] / size[1])), target[1]


def _resized(picture: Picture, target: tuple[int, int], upscaler: Upscaler) -> Picture:
    from PIL import Image

    how = Image.Resampling.LANCZOS if upscaler.mode == "lanczos" else Image.Resampling.NEAREST
    wide, high = covering(picture.size, target)
    left, top = (wide - target[0]) // 2, (high - target[1]) // 2
    image = picture.to_pil()
    image = image if image.size == (wide, high) else image.resize((wide, high), how)
    return Picture.from_pil(image.crop((left, top, left + target[0], top + target[1])))


def _last(grid: Grid, steps: int) -> Grid:
    """The last `steps` of a grid, or all of them where it has fewer."""
    n = min(steps, len(grid))
    return Grid(grid.times[-n - 1 :], None if grid.clocks is None else grid.clocks[-n:])
