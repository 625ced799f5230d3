"""What pictures were made with beside their request: files and their hashes, precision, prediction, a model's solver.

A record names files by paths, which mean nothing on another machine and may hold something else tomorrow; the hash
beside each says whether it is still the same file. Book: chapter 6, "Where a picture comes from".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from huggingvis.checkpoints.file_hashes import USUAL, Hashes
from huggingvis.checkpoints.kinds import kind_of
from huggingvis.core.diffusion import Diffuses, NetDenoiser
from huggingvis.core.errors import HvisError
from huggingvis.core.process import PREDICTIONS, Around
from huggingvis.core.request import OWN, Request
from huggingvis.core.system import Spec, System
from huggingvis.samplers.names import sampler_called, schedule_called


def used(system: System, request: Request) -> Callable[[], dict[str, Any]]:
    """What `bound` tells, and `model_path`, `model_hash`, `files`, `sampler` and `schedule`, as far as there are any.

    Hashes of large files take seconds, so that they are found beside the sampling: the record waits for them.
    """
    spec, solver = system.spec, {**bound(system, request), **_solver(system, request)}
    files = list(_files(spec, request))
    hashes = _beside([path for path in dict.fromkeys((spec.path, *(path for _, path in files))) if path])

    def told() -> dict[str, Any]:
        found = hashes()
        rows = [_row(kind, path, found.get(path)) for kind, path in files]
        out: dict[str, Any] = {"model_path": spec.path} if spec.path else {}
        if spec.path in found:
            out["model_hash"] = found[spec.path].sha256
        return {**out, **({"files": rows} if rows else {}), **solver}

    return told


def bound(system: System, request: Request) -> dict[str, str]:
    """`precision` of the nets and `prediction`, how their output is read, of models whose files leave both open."""
    if not system.spec.path:
        return {}
    dtype = next(next(iter(system.parts.values())).parameters()).dtype
    told = {"precision": str(dtype).removeprefix("torch.")}
    model = system.generator(request)
    if not isinstance(model, Diffuses) or not isinstance(model.diffusion.denoise, NetDenoiser):
        return told
    read = model.diffusion.denoise.prediction
    while isinstance(read, Around):
        read = read.inner
    name = next((name for name, kind in PREDICTIONS.items() if type(read) is kind), "")
    return {**told, "prediction": "epsilon" if name == "eps" else name} if name else told


def _beside(paths: Sequence[str]) -> Callable[[], dict[str, Hashes]]:
    """The hashes of those that are files and can be read, which another thread finds meanwhile."""
    files = [path for path in paths if Path(path).is_file()]
    if not files:
        return dict

    def found() -> dict[str, Hashes]:
        out = {}
        for path in files:
            try:
                out[path] = USUAL.of(path)
            except HvisError:
                continue  # it is named without one
        return out

    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="huggingvis-hashes")
    future = thread.submit(found)
    thread.shutdown(wait=False)
    return future.result


def _files(spec: Spec, request: Request) -> Iterator[tuple[str, str]]:
    """(kind, path) of each file beside the model's own."""
    if spec.vae:
        yield "vae", spec.vae
    for path in spec.text_encoders:
        yield "text-encoder", path
    for use in request.adapters:
        try:
            yield kind_of(use.path).name, use.path
        except HvisError:
            continue  # said when it is to be put on
    for path in dict.fromkeys(_pictures(request)):
        if Path(path).is_file():
            yield "picture", path


def _pictures(request: Request) -> Iterator[str]:
    """What it starts from, and what its adapters read."""
    if request.source is not None:
        yield from request.source.files()
    yield from (use.image for use in request.adapters if use.image)


def _row(kind: str, path: str, found: Hashes | None) -> dict[str, Any]:
    row = {"kind": kind, "path": path}
    if found is None:
        return row
    if kind == "picture":
        return {**row, "sha256": found.sha256}
    shown = (found.addnet or found.sha256) if kind == "lora" else found.sha256
    return {**row, "sha256": found.sha256, "a1111": shown[:12]}


def _solver(system: System, request: Request) -> dict[str, str]:
    """The names of the model's own sampler and schedule, where the request asks for these."""
    asked = request.sampling
    if OWN not in (asked.sampler, asked.schedule):
        return {}
    model = system.generator(request)
    if not isinstance(model, Diffuses):
        return {}
    names = {"sampler": sampler_called(model.diffusion.sampler),
             "schedule": schedule_called(model.diffusion.grid, asked.steps)}  # fmt: skip
    return {name: called for name, called in names.items() if called and getattr(asked, name) == OWN}
