"""What a request starts from, and the file of edits/ that knows how: `FromPicture` is read by from_picture.py.

Each such file has three functions of a source: `asked` (what the model is asked for in the request's place, since a
source may decide the canvas), `sample` (latents), `finish` (pixels as they leave). Book: chapter 6.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from torch import Tensor

from huggingvis.core.grid import Grid
from huggingvis.core.media import Picture
from huggingvis.core.picture_files import looks_of
from huggingvis.core.request import Request, Source
from huggingvis.core.system import System, canvas_of
from huggingvis.edits.from_picture import tail
from huggingvis.edits.task import Task

_BENT = 0.03
"""How much a shape may change, as the logarithm of width / height: sizes are rounded to what a model makes."""


class Edit(Protocol):
    """A file of edits/ that bears a source's name."""

    def asked(self, system: System, request: Request, source: Any) -> Request: ...

    def sample(self, task: Task, source: Any) -> Tensor: ...

    def finish(self, task: Task, source: Any, pictures: Sequence[Picture]) -> list[Picture]: ...


def edit_of(source: Source) -> Edit:
    """The file that bears the name of the source's type."""
    name = re.sub("(?<!^)(?=[A-Z])", "_", type(source).__name__).lower()
    return cast(Edit, importlib.import_module(f"huggingvis.edits.{name}"))


def asked(system: System, request: Request) -> Request:
    """What the model is asked for. Raises `FileProblem` and `UsageError` for a source that cannot be used."""
    return request if request.source is None else edit_of(request.source).asked(system, request, request.source)


def walked(source: Source | None) -> Callable[[Grid], Grid]:
    """The part of a grid that is walked from a source."""
    if source is None or source.strength in (0.0, 1.0):
        return lambda grid: grid
    strength = source.strength
    return lambda grid: tail(grid, strength)


def sample(task: Task) -> Tensor:
    """Samples [n, ...] in the model's space, from noise or from what the request names."""
    source = task.request.source
    return task.from_noise() if source is None else edit_of(source).sample(task, source)


def finish(task: Task, pictures: Sequence[Picture]) -> list[Picture]:
    """The decoded pictures as they leave."""
    source = task.request.source
    return list(pictures) if source is None else edit_of(source).finish(task, source, pictures)


def notes(system: System, request: Request) -> tuple[str, ...]:
    """What of a source is not used, or not as it is, in sentences."""
    source = request.source
    if source is None:
        return ()
    looks = {path: looks_of(path) for path in source.files()}
    said = [
        f"{path} is a moving picture of {one.frames} frames: the first one is used."
        for path, one in looks.items()
        if one.frames > 1
    ]
    if looks[source.path].transparent:
        said.append(f"{source.path} is transparent in places: it is laid over white.")
    if source.stretched:
        said += _bent(source.path, looks[source.path].size, canvas_of(asked(system, request), system.spec))
    return tuple(said)


def _bent(path: str, size: tuple[int, int], canvas: tuple[int, int]) -> list[str]:
    """That a picture takes another shape, if one sees it."""
    if abs(math.log(size[0] * canvas[1] / (size[1] * canvas[0]))) <= _BENT:
        return []
    return [
        f"{path} has {size[0]}x{size[1]} pixels and is pulled to another shape, {canvas[0]}x{canvas[1]}. Keep its own "
        "with resize 'crop' or 'fill' (--resize-mode), or ask for a canvas of its shape."
    ]
