"""Outpainting: a picture grows to any side; what is new is a hole on a larger canvas, filled as inpainting fills it.

Blended and repainted nets see the picture through `edits.inpaint`, nets with nine channels are shown it. The new canvas
takes the picture's edge drawn out, blurred surroundings or noise before noise is added, which is seen with a strength
below 1 and by codecs that look across the seam. A canvas whose sides a model does not take is made up to the next that
it does, at the right and below, and cut off in the end. Book: chapter 6, "Outpainting".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.media import Picture
from huggingvis.core.picture_files import over_white
from huggingvis.core.request import Inpaint, Outpaint, Request
from huggingvis.core.request_sources.inpaint import Fill
from huggingvis.core.request_sources.outpaint import Ground
from huggingvis.core.resizing import Box
from huggingvis.core.system import System
from huggingvis.edits.inpaint import Work, made_anew, put_back
from huggingvis.edits.placing import drawn_out, surroundings
from huggingvis.edits.task import Task

SYSTEM = {
    "name": "Outpainting",
    "chapter": 6,
    "paper": "2112.10752",
    "files": [
        "edits/inpaint.py",
        "edits/placing.py",
    ],
    "built": "tests/walks/test_outpainting.py::test_a_picture_grows_to_any_side",
    "exact": [
        "tests/walks/test_outpainting.py::test_outpainting_is_inpainting_of_a_grown_canvas",
        "tests/walks/test_outpainting.py::test_the_picture_itself_stays",
    ],
    "trained": None,
    "explained": None,
    "usable": None,
}

_FILLS: dict[Ground, Fill] = {"edge": "original", "blur": "original", "noise": "noise"}


def asked(system: System, request: Request, source: Outpaint) -> Request:
    """The request at the size of the grown picture, made up to one that the model takes.

    Raises `UsageError` where there is a size in the request or the model takes none so large.
    """
    if request.canvas.width is not None or request.canvas.height is not None:
        raise UsageError(
            "A picture that grows has the size of its file and its new canvas, so width and height cannot be asked for "
            "beside it. Leave the size out, and say how far the picture grows."
        )
    multiple, most = system.limits.multiple, system.limits.side
    width, height = _grown(over_white(source.path).size, source)
    sides = [-(-side // multiple) * multiple for side in (width, height)]
    if max(sides) > most:
        raise UsageError(
            f"The picture {source.path} would grow to {width}x{height} pixels, but {system.spec.name!r} draws at most "
            f"{most} a side. Let it grow less, or make it smaller first."
        )
    return replace(request, canvas=replace(request.canvas, width=sides[0], height=sides[1]))


def sample(task: Task, source: Outpaint) -> Tensor:
    """Samples [n, ...] in the model's space. Raises `FileProblem` or `UsageError` for a picture that cannot be used."""
    return made_anew(task, work_of(task, source), _as_inpainting(source))


def finish(task: Task, source: Outpaint, pictures: Sequence[Picture]) -> list[Picture]:
    """The pictures with the file's own pixels in their middle, without what made up the model's size."""
    return put_back(work_of(task, source), _as_inpainting(source), pictures)


def work_of(task: Task, source: Outpaint) -> Work:
    """The grown canvas and its hole."""
    picture = over_white(source.path, task.system.spec.channels)
    width, height = _grown(picture.size, source)
    at = Box(source.left, source.top, source.left + picture.width, source.top + picture.height)
    hole, fade = _seams(source, at, task.size)
    drawn = drawn_out(picture, at, task.size)
    image = surroundings(drawn, hole) if source.ground == "blur" else drawn
    if source.ground == "blur":
        image.paste(picture, at[:2])
    whole = Box(0, 0, width, height)
    return Work(image.crop(whole), fade[:height, :width], whole, whole, image, hole)


def _grown(size: tuple[int, int], source: Outpaint) -> tuple[int, int]:
    return source.left + size[0] + source.right, source.top + size[1] + source.bottom


def _seams(source: Outpaint, at: Box, canvas: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """What is made anew, bool [H, W], and how much of it is seen, uint8 [H, W].

    Within `seam` pixels of a side that grows the picture is made anew too, and old fades into new along a line.
    """
    width, height = canvas
    x, y = np.arange(width)[None, :], np.arange(height)[:, None]
    outside = (x < at.left) | (x >= at.right) | (y < at.top) | (y >= at.bottom)  # [H, W]
    sides = (
        (source.left, x - at.left),
        (source.right, at.right - 1 - x),
        (source.top, y - at.top),
        (source.bottom, at.bottom - 1 - y),
    )
    inside = [np.broadcast_to(way, outside.shape) for grows, way in sides if grows]  # pixels from a side that grows
    near = np.minimum.reduce(inside)
    share = np.clip((source.seam - near) / (source.seam + 1), 0.0, 1.0)  # 0 from `seam` pixels on
    hole = outside | (near < source.seam)
    return hole, np.where(outside, 255, np.rint(255 * share)).astype(np.uint8)


def _as_inpainting(source: Outpaint) -> Inpaint:
    return Inpaint(
        source.path,
        mask="the new canvas",
        strength=source.strength,
        method=source.method,
        fill=_FILLS[source.ground],
        paste=source.paste,
        jump=source.jump,
        resamples=source.resamples,
    )
