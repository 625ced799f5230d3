"""A second model that takes over for the last steps: Stable Diffusion XL's base and refiner.

Podell et al. 2023, arXiv 2307.01952, Sec. 2.5: a net trained on low noise alone works out what another composed. The
handover is in the middle of a walk, in latents, so both must have one latent space and one noise table. The second
takes over at the first step whose clock is below T (1 - at), as diffusers' `denoising_end` and `denoising_start` and
AUTOMATIC1111's "switch at" count, reads the prompt by towers of its own, and a sampler's history begins anew.
Book: chapter 6, "A second model".
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Lock
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch

from huggingvis.codecs.kl_latents import KLLatents
from huggingvis.core.diffusion import AFTER, Diffuses, Diffusion, Successor, compose
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.request import Limits, Refiner, Request
from huggingvis.core.system import System
from huggingvis.core.text_memory import remembering
from huggingvis.edits.sizes import seen
from huggingvis.edits.task import Task
from huggingvis.processes.table import TableProcess
from huggingvis.systems.pipelines import INDEX, How, bind_folder
from huggingvis.systems.single_file import bind_file

SYSTEM = {
    "name": "SDXL refiner (ensemble of experts)",
    "chapter": 6,
    "paper": "2307.01952",
    "files": ["core/diffusion.py", "systems/size_conditions.py"],
    "built": "tests/walks/test_large_pictures.py::test_a_refiner_takes_over",
    "exact": ["tests/interop/test_large_pictures.py::test_base_and_refiner_are_those_of_diffusers"],
    "trained": None,
    "explained": None,
    "usable": None,
}


_OPEN: WeakValueDictionary[tuple[str, int, How], System] = WeakValueDictionary()
"""Second models for as long as anybody has them: a request that is being made has its own."""
_KEPT: WeakKeyDictionary[AbstractContextManager[bool], System] = WeakKeyDictionary()
"""The last one alone, by the lock of its first model, which is the same object in all forms of one system."""
_OPENING = Lock()


def of_both(system: System, request: Request) -> Limits:
    """What a system accepts together with the request's refiner, which reads options of its own."""
    if request.refiner is None:
        _KEPT.pop(system.lock, None)
        return system.limits
    more = opened(system, request.refiner).limits.options
    return replace(system.limits, options=tuple(dict.fromkeys((*system.limits.options, *more))))


def opened(system: System, refiner: Refiner) -> System:
    """The second model, on the first one's device and in its precision, the same one for all that ask for it.

    The last one is kept until its first model goes, or a request of that names none (`of_both`), or another is opened.
    Raises `FileProblem` for what is no model, `UsageError` for one of other latents.
    """
    path = Path(refiner.model)
    if not path.is_file() and not (path / INDEX).is_file():
        raise FileProblem(
            f"{path}, named as the refiner, is neither a single-file checkpoint nor a folder of diffusers with a "
            f"{INDEX}. Name one that lies on this machine."
        )
    marker = path if path.is_file() else path / INDEX
    real, how = Path(os.path.realpath(path)), _how(system)
    key = str(real), marker.stat().st_mtime_ns, how
    with _OPENING:
        second = _OPEN.get(key)
        _KEPT.clear()  # before the other one takes as much
        if second is None:
            second = bind_file(real, how) if real.is_file() else bind_folder(real, how)
        _OPEN[key] = _KEPT[system.lock] = second
    _check_latents(system, second)
    return second


def _how(system: System) -> How:
    codec, dtype = system.codec, next(next(iter(system.parts.values())).parameters()).dtype
    return How(system.device, dtype, next(codec.parameters()).dtype if isinstance(codec, KLLatents) else dtype)


def handed_over(task: Task, stack: ExitStack) -> Task:
    """The task with the request's refiner behind its model, in use until `stack` closes. Raises `UsageError`."""
    asked = task.request.refiner
    if asked is None:
        return task
    second = opened(task.system, asked)
    stack.enter_context(second.lock)
    for net in second.parts.values():
        stack.enter_context(remembering(net))
    first, other = task.model, second.generator(task.request)
    assert isinstance(other, Diffuses)
    after = other.diffusion
    _check_noise(task.system, second, first, after)
    requests = [seen(task.system, task.request)] * task.n
    cond = second.conditioner.prepare(second.conditioner(requests))
    told = {f"{AFTER}{key}": value for key, value in after.condition(cond, task.noise).items()}
    successor = Successor(compose(after.denoise, after.guidance), time_of(first, asked.at))
    return replace(task, generator=replace(first, then=successor), cond={**task.cond, **told})


def time_of(model: Diffusion, at: float) -> float:
    """A time between the last step of the first model and the first one of the second."""
    grid, process = model.grid(model.process.pace), model.process
    if isinstance(process, TableProcess):
        clocks = process.clock(grid.times[:-1]) if grid.clocks is None else grid.clocks
        late = clocks < round(process.steps - at * process.steps)
    else:
        late = grid.times[:-1] < 1 - at
    n = int(late.nonzero()[0]) if bool(late.any()) else len(grid)
    if n == 0:
        return float(grid.times[0]) + 1.0
    return float(grid.times[n - 1] + grid.times[n]) / 2 if n < len(grid) else 0.0


def _check_latents(first: System, second: System) -> None:
    mine, theirs = first.codec, second.codec
    if isinstance(mine, KLLatents) and isinstance(theirs, KLLatents):
        facts = [
            (one.autoencoder.config.latent_channels, one.autoencoder.factor, tuple(one.std.tolist())[:1])
            for one in (mine, theirs)
        ]
        same = facts[0][:2] == facts[1][:2] and all(
            torch.allclose(a.cpu(), b.cpu(), rtol=1e-3, atol=1e-4)
            for a, b in ((mine.mean, theirs.mean), (mine.std, theirs.std))
        )
        if same:
            return
        words = [f"{c} channels at 1/{f} of the size, scaled by {1 / s[0]:.5g}" for c, f, s in facts]
    else:
        words = ["those of another kind"] * 2
    raise UsageError(
        f"A refiner goes on with the latents of the first model: {first.spec.name!r} has {words[0]}, "
        f"{second.spec.name!r} {words[1]}. Use the refiner of the same family, or refine the finished picture by "
        "image-to-image."
    )


def _check_noise(first: System, second: System, model: Diffusion, after: Diffusion) -> None:
    times = model.grid(model.process.pace).times
    mine, theirs = (
        torch.stack([of.alpha(times), of.sigma(times), of.clock(times)]) for of in (model.process, after.process)
    )
    if model.shape != after.shape or not torch.allclose(mine, theirs, rtol=1e-6, atol=1e-9):
        raise UsageError(
            f"A refiner goes on in the middle of a walk, but {first.spec.name!r} and {second.spec.name!r} were trained "
            "on different noise. Use the refiner of the same family, or refine the finished picture by image-to-image."
        )
