"""Every model that is on this machine beside our own: in the folders of other programs and in the cache of the hub.

    for model in overview([Path("~/ComfyUI")]): print(model.name, model.kind, model.bytes, model.title)

What each is, is told from headers and settings, so that a folder of hundreds is listed in seconds; of files without a
header that can be read alone (.ckpt, .pt), the folder they lie in tells. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from huggingvis.checkpoints.kinds import CONFIG, INDEX, Subject
from huggingvis.checkpoints.local_folders import KINDS, LocalModel, listed
from huggingvis.checkpoints.report import report_of
from huggingvis.core.errors import HvisError

DAMAGED = "damaged"
"""The title of a file whose header makes no sense."""
_SAME = {"pipeline": "checkpoint", "t2i-adapter": "controlnet"}
"""Kinds that are named as another where models are given."""
_PLAIN = 3
"""A file that lies where so many kinds may be, lies in a folder that is no program's."""


@final
@dataclass(frozen=True)
class Found:
    """A model on this machine.

    Attributes:
        name: by which it can be given to `--model`, `--lora` and the like.
        kind: a key of `local_folders.KINDS`, or "other".
        path: where it lies.
        bytes: of it, with all its parts.
        title: what its header says that it is, `DAMAGED`, or "" where that was not read.
    """

    name: str
    kind: str
    path: Path
    bytes: int
    title: str = ""

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "path": str(self.path), "bytes": self.bytes, "title": self.title}


def overview(roots: Sequence[Path], cache: Path | None = None) -> list[Found]:
    """All models of the folders of other programs `roots` and of the hub's `cache` (None: the usual one), each once.

    Sorted by kind and name. Raises `FileProblem` for a root that is not there.
    """
    places: dict[str, list[LocalModel]] = {}
    for kind in KINDS:
        for model in listed(kind, roots):
            places.setdefault(os.path.realpath(model.path), []).append(model)
    found = [_looked_at(models) for models in places.values()]
    order = [*KINDS, "other"]
    return sorted([*found, *in_cache(cache)], key=lambda model: (order.index(model.kind), model.name.lower()))


def matching(name: str, models: Iterable[Found]) -> list[Found]:
    """The models called `name`, or else those in whose names it occurs; capital letters do not matter."""
    wanted, models = name.strip().lower(), list(models)
    called = [m for m in models if wanted in (m.name.lower(), m.path.name.lower(), m.path.stem.lower())]
    return called or [m for m in models if wanted in m.name.lower()]


def _looked_at(models: Sequence[LocalModel]) -> Found:
    """One file, as all kinds that may lie in its folder list it."""
    first = models[0]
    own, title = _told(first.path)
    lies = [model.kind for model in models]
    kind = own if own in lies else lies[0] if len(lies) < _PLAIN else own if own in KINDS else "other"
    return Found(first.name, kind, first.path, _bytes(first.path), title)


def _told(path: Path) -> tuple[str, str]:
    """(kind, title) that the header tells; ("", "") of a file whose header cannot be read alone, or is damaged."""
    if path.suffix.lower() != ".safetensors" and not path.is_dir():
        return "", ""
    try:
        report = report_of(Subject(path))
        base = report.told.base
        made = f" for {base.name}" if base is not None and report.kind.adapter else ""
        return _SAME.get(report.kind.name, report.kind.name), report.title + made
    except HvisError:
        return "", DAMAGED


def _bytes(path: Path) -> int:
    """With all parts, and what links lead to, of which a hub's cache consists."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def in_cache(cache: Path | None = None) -> Iterator[Found]:
    """Models for pictures in the hub's cache: whole ones as `owner/name`, single files as `owner/name:file`."""
    if cache is None:
        from huggingface_hub import constants

        cache = Path(constants.HF_HUB_CACHE)
    for kept in sorted(cache.glob("models--*--*")):
        name, snapshot = kept.name.removeprefix("models--").replace("--", "/", 1), _newest(kept)
        if snapshot is None:
            continue
        if (snapshot / INDEX).is_file():
            yield Found(name, "checkpoint", snapshot, _bytes(snapshot), _told(snapshot)[1])
        elif not (snapshot / CONFIG).is_file():  # with settings at its top it is one net, mostly of language
            for file in sorted(snapshot.rglob("*.safetensors")):
                kind, title = _told(file)
                if kind in KINDS:
                    yield Found(f"{name}:{file.relative_to(snapshot).as_posix()}", kind, file, _bytes(file), title)


def _newest(kept: Path) -> Path | None:
    """The snapshot of `main`, or else the one that was fetched last."""
    main = kept / "refs" / "main"
    if main.is_file() and (named := kept / "snapshots" / main.read_text(encoding="utf-8").strip()).is_dir():
        return named
    return max(kept.glob("snapshots/*/"), key=lambda place: place.stat().st_mtime, default=None)
