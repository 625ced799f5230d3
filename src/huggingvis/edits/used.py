"""What pictures were made with beside their request: files and their hashes, and the solver that a model came with.

A record names files by paths, which mean nothing on another machine and may hold something else tomorrow; the hash
beside each says whether it is still the same file. Book: chapter 6, "Where a picture comes from".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingvis.checkpoints.file_hashes import USUAL, Hashes
from huggingvis.checkpoints.kinds import kind_of
from huggingvis.core.diffusion import Diffuses
from huggingvis.core.errors import HvisError
from huggingvis.core.request import OWN, Inpaint, Request
from huggingvis.core.system import Spec, System
from huggingvis.samplers.names import sampler_called, schedule_called


def used(system: System, request: Request) -> dict[str, Any]:
    """`model_path`, `model_hash`, `files`, `sampler` and `schedule` of pictures' records, as far as there are any."""
    found: dict[str, Any] = {}
    spec = system.spec
    if spec.path:
        found["model_path"] = spec.path
        if (model := _hashes(spec.path)) is not None:
            found["model_hash"] = model.sha256
    files = list(_files(spec, request))
    return {**found, **({"files": files} if files else {}), **_solver(system, request)}


def _files(spec: Spec, request: Request) -> Iterator[dict[str, Any]]:
    if spec.vae:
        yield _row("vae", spec.vae)
    for use in request.adapters:
        try:
            kind = kind_of(use.path).name
        except HvisError:
            continue  # said when it is to be put on
        yield _row(kind, use.path)
    for path in dict.fromkeys(_pictures(request)):
        if Path(path).is_file():
            yield {"kind": "picture", "path": path, "sha256": USUAL.of(path).sha256}


def _pictures(request: Request) -> Iterator[str]:
    """What it starts from, and what its adapters read."""
    source = request.source
    if source is not None:
        yield source.path
    if isinstance(source, Inpaint):
        yield source.mask
    yield from (use.image for use in request.adapters if use.image)


def _row(kind: str, path: str) -> dict[str, Any]:
    found = _hashes(path)
    if found is None:
        return {"kind": kind, "path": path}
    shown = (found.addnet or found.sha256) if kind == "lora" else found.sha256
    return {"kind": kind, "path": path, "sha256": found.sha256, "a1111": shown[:12]}


def _hashes(path: str) -> Hashes | None:
    """Of a file; folders have none."""
    return USUAL.of(path) if Path(path).is_file() else None


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
