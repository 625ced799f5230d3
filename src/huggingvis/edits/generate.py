"""From a request to pictures: the first walk, the same for every system.

Request -> condition -> generative model with the request's numbers -> samples from per-picture noise -> media that
carry their request. A request that starts from a picture is sampled by the file of edits/ that bears its type's name
(`edits.starting`). Pictures are made in chunks of `CHUNK`; which chunk a picture came from is recorded,
because the last bit of a convolution may depend on the batch it runs in, and `repeat` gives the same bits again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

import torch
from torch import Tensor

from huggingvis.core.diffusion import Diffuses
from huggingvis.core.errors import UsageError
from huggingvis.core.grid import Grid
from huggingvis.core.media import Picture
from huggingvis.core.noise import Noise
from huggingvis.core.protocols import Encodes, Generative, OnStep
from huggingvis.core.request import Limits, Request, check
from huggingvis.core.shapes import check_finite
from huggingvis.core.streams import noise_of
from huggingvis.core.system import System, canvas_of, nearest_trained
from huggingvis.core.text_memory import remembering
from huggingvis.core.version import __version__
from huggingvis.edits import refine, starting
from huggingvis.edits.idle import idle
from huggingvis.edits.refiner import handed_over, of_both, opened
from huggingvis.edits.sizes import check_sizes, cut, seen, windowed
from huggingvis.edits.task import Task
from huggingvis.edits.used import used
from huggingvis.runtime.memory import reused
from huggingvis.samplers.names import schedule_name, split_label

CHUNK = 8
Made = Callable[[], dict[str, Any]]
"""How pictures are made, once they are."""
Draws = Callable[[tuple[int, int]], Noise]
"""The noise of a pass, by its canvas."""
_MOST_OF_A_TENSOR = 4096  # numbers of each tensor that the fingerprint reads: enough to tell trainings apart, and quick


@final
@dataclass(frozen=True)
class Prepared:
    """A request that `system` can do, with sampler and schedule by our names, and what there is to know of it."""

    system: System
    request: Request
    notes: tuple[str, ...]

    def pictures(self, on_step: OnStep | None = None) -> Iterator[Picture]:
        """Each picture as soon as its chunk is made."""
        made, count = _made(self, CHUNK), self.request.canvas.count
        chunks = (range(i, min(i + CHUNK, count)) for i in range(0, count, CHUNK))
        return (picture for chunk in chunks for picture in _chunk(self.system, self.request, chunk, made, on_step))


def prepared(system: System, request: Request) -> Prepared:
    """The request, checked once for its notes and its pictures; seeds of -1 are drawn. Raises `UsageError`,
    `FileProblem`."""
    request = possible(system, request.with_seeds())
    return Prepared(system, request, _notes(system, request))


def generate(system: System, request: Request, *, on_step: OnStep | None = None) -> list[Picture]:
    """The pictures that `request` asks of `system`; picture i draws its noise from seed + i.

    Raises `UsageError` for values that `system` cannot take, `NumericalTrouble` where weights or precision fail, and
    lets `Cancelled` from `on_step` through.
    """
    return list(stream(system, request, on_step=on_step))


def stream(system: System, request: Request, *, on_step: OnStep | None = None) -> Iterator[Picture]:
    """As `generate`, each picture as soon as its chunk is made; the request is checked at once."""
    return prepared(system, request).pictures(on_step)


def repeat(
    system: System, request: Request, batch_index: int, *, chunk: int = CHUNK, on_step: OnStep | None = None
) -> Picture:
    """Picture `batch_index` of a request again, from the `chunk` it was made in: the same bits on the same machine."""
    ready = prepared(system, request)
    request = ready.request
    if not 0 <= batch_index < request.canvas.count:
        raise UsageError(
            f"The request makes {request.canvas.count} pictures, numbered from 0; there is no number {batch_index}."
        )
    first = batch_index - batch_index % chunk
    together = range(first, min(first + chunk, request.canvas.count))
    return list(_chunk(system, request, together, _made(ready, chunk), on_step))[batch_index - first]


def notes(system: System, request: Request) -> tuple[str, ...]:
    """What `request` asks for that `system` was not trained for, or that has no effect; its pictures record these.

    Raises `UsageError` for what `system` cannot do at all: nobody should be warned of what is refused in the end.
    """
    return prepared(system, request).notes


def _notes(system: System, request: Request) -> tuple[str, ...]:
    if system.adapts is not None and request.adapters:
        with system.lock, system.adapts.words(request):
            said = system.conditioner.notes(request) + system.adapts.notes(request)
    else:
        said = system.conditioner.notes(request)
    said += idle(system, request) + starting.notes(system, request)
    asked = canvas_of(seen(system, refine.first(starting.asked(system, request))), system.spec)
    own = nearest_trained(system.spec, asked)
    if asked != own:
        sizes = [f"{width}x{height}" for width, height in (own, asked)]
        many = bool(system.spec.trained)
        known = "nearest size that the model was trained on is" if many else "model was trained on pictures of"
        said += (f"The {known} {sizes[0]} pixels; at {sizes[1]} it draws worse, or something else.",)
    return said


def possible(system: System, request: Request) -> Request:
    """The request with sampler and schedule by our names, if `system` can do all of it. Raises `UsageError`."""
    limits, request = of_both(system, request), request.with_own(system.defaults)
    request = _named(check(request, replace(limits, samplers=(), schedules=())), limits)
    if request.source is not None and not isinstance(system.codec, Encodes):
        raise UsageError(f"{system.spec.name!r} has no encoder, so it starts from no picture. Leave the picture out.")
    if request.adapters and system.adapts is None:
        raise no_adapters(system.spec.name)
    check(starting.asked(system, request), limits)
    return check_sizes(system, check(request, limits))


def no_adapters(model: str) -> UsageError:
    """That a model takes none."""
    return UsageError(
        f"{model!r} takes no LoRAs, textual inversions or control nets (--lora, --embedding, --control). Leave them "
        "out, or name a Stable Diffusion model with --model."
    )


def _named(request: Request, limits: Limits) -> Request:
    """A label such as "DPM++ 2M Karras" says sampler and schedule; names that only this system knows stay."""
    asked, again = request.sampling, request.refine
    sampler, schedule = _solver(asked.sampler, asked.schedule, limits)
    request = replace(request, sampling=replace(asked, sampler=sampler or "", schedule=schedule or ""))
    if again is None:
        return request
    sampler, schedule = _solver(again.sampler, again.schedule, limits)
    return replace(request, refine=replace(again, sampler=sampler, schedule=schedule))


def _solver(sampler: str | None, schedule: str | None, limits: Limits) -> tuple[str | None, str | None]:
    """Both by our names; None for one that is not said."""
    if sampler and sampler not in limits.samplers:
        sampler, told = split_label(sampler)
        schedule = told or schedule
    if schedule and schedule not in limits.schedules:
        schedule = schedule_name(schedule)
    return sampler, schedule


@torch.inference_mode()
def _chunk(system: System, request: Request, chunk: range, made: Made, on_step: OnStep | None) -> Iterator[Picture]:
    began = time.perf_counter()
    n, how = len(chunk), request.refine
    asked = starting.asked(system, request)
    noise = partial(noise_of, request.sampling, chunk)
    with reused(system.device):
        system, once = cut(system, asked), refine.Once()
        first = _Pass(system, refine.first(asked), starting.sample, starting.walked(asked.source))
        z, task = first.latents(n, noise, once, on_step)
        if how is not None:
            again = refine.second(system, asked)
            system = cut(system, again)
            second = _Pass(system, again, refine.Again(z, how), refine.walked_of(how))
            z, task = second.latents(n, noise, once, on_step)
        x = system.codec.decode(check_finite(z, "The sample")).float().cpu().numpy()  # [n, C, H, W]
    seconds = round((time.perf_counter() - began) / n, 3)
    pictures, record = [], made()
    for i, signal in zip(chunk, x, strict=True):
        own = {"batch_index": i, **request.sampling.seeds(i), "seconds": seconds}
        pictures.append(Picture.from_signal(signal, request, {**record, **own}))
    yield from starting.finish(task, pictures)


@dataclass(frozen=True)
class _Pass:
    """What is sampled in one go: the request of it, how latents are made, and which part of a grid they walk."""

    system: System
    request: Request
    make: Callable[[Task], Tensor]
    walked: Callable[[Grid], Grid]

    def latents(self, n: int, noise: Draws, once: refine.Once, on_step: OnStep | None) -> tuple[Tensor, Task]:
        """Samples [n, ...], and what they were made of."""
        system, request = self.system, self.request
        model = system.generator(request)
        with ExitStack() as stack:
            stack.enter_context(system.lock)
            more = stack.enter_context(system.adapts(request, n, self._seen(model))) if system.adapts else {}
            for net in system.parts.values():
                stack.enter_context(remembering(net))
            cond = system.conditioner.prepare({**system.conditioner([seen(system, request)] * n), **more})
            task = Task(system, request, model, n, cond, noise(canvas_of(request, system.spec)), on_step)
            return self.make(once(windowed(handed_over(task, stack)))), task

    def _seen(self, model: Generative) -> Generative:
        """The model as adapters see it, which act for parts of the steps that are walked."""
        if not isinstance(model, Diffuses):
            return model
        whole = model.diffusion
        return replace(whole, grid=lambda process: self.walked(whole.grid(process)))


def _made(ready: Prepared, chunk: int) -> Made:
    system, request, said = ready.system, ready.request, ready.notes
    files = used(system, request)
    with system.lock:  # no other thread's adapters are on the nets
        weights = fingerprint(system)
    second = None if request.refiner is None else opened(system, request.refiner)
    return lambda: {
        "model": system.spec.name,
        "weights": weights,
        "backend": f"torch {torch.__version__} {system.device.type} eager",
        "version": __version__,
        "chunk": chunk,
        **files(),
        **({"licence": system.spec.licence} if system.spec.licence else {}),
        **({"notes": list(said)} if said else {}),
        **({"refiner": f"{second.spec.name} {fingerprint(second)}"} if second else {}),
    }


def fingerprint(system: System) -> str:
    """12 hex digits that tell two trainings of the same networks apart, from a sample of every tensor's numbers."""
    digest = hashlib.blake2b(digest_size=6)
    for part in sorted(system.parts):
        for name, tensor in sorted(system.parts[part].state_dict().items()):
            every = max(1, tensor.numel() // _MOST_OF_A_TENSOR)
            at = torch.arange(0, tensor.numel(), every, device=tensor.device)
            some = tensor.detach().take(at).to("cpu")  # of any memory layout, without a copy of the whole
            digest.update(f"{part}.{name} {list(tensor.shape)}".encode())
            digest.update(some.double().numpy().tobytes())
    return digest.hexdigest()
