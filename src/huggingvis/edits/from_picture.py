"""Image-to-image: a picture is noised part of the way and undone from there under a new condition.

Meng et al. 2021, "SDEdit" (arXiv 2108.01073), Sec. 3.2. Of a grid of N steps the last floor(N strength) are walked, as
the community's programs count; latents are drawn from q(z|x). A net that sees the picture itself (Brooks, Holynski &
Efros 2022, "InstructPix2Pix", arXiv 2211.09800) is shown it and begins with noise. Strength 0 gives the picture back,
and strength 1 is text-to-image where a process ends in pure noise. Book: chapter 6, "From a picture".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from PIL import Image
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.grid import Grid
from huggingvis.core.media import Picture
from huggingvis.core.picture_files import over_white
from huggingvis.core.request import FromPicture, Request
from huggingvis.core.streams import aside
from huggingvis.core.system import System
from huggingvis.edits.placing import placed
from huggingvis.edits.task import Task

SYSTEM = {
    "name": "SDEdit (image-to-image)",
    "chapter": 6,
    "paper": "2108.01073",
    "files": [
        "edits/task.py",
        "edits/placing.py",
        "edits/starting.py",
        "edits/generate.py",
    ],
    "built": "tests/walks/test_diffusers_folders.py::test_a_folder_makes_pictures[img2img]",
    "exact": [
        "tests/interop/test_pipelines.py::test_image_to_image",
        "tests/walks/test_from_pictures.py::test_strength_0_gives_the_picture_back",
        "tests/walks/test_from_pictures.py::test_strength_1_is_text_to_image",
        "tests/interop/test_other_pipelines.py::test_pixart_from_a_picture",
    ],
    "trained": None,
    "explained": None,
    "usable": None,
}


def asked(system: System, request: Request, source: FromPicture) -> Request:
    """What the model is asked for: the request itself."""
    return request


def sample(task: Task, source: FromPicture) -> Tensor:
    """Samples [n, ...] in the model's space. Raises `FileProblem` or `UsageError` for a picture that cannot be used."""
    x = task.tensor(_picture(task, source))
    if task.system.shows is not None:
        return task.from_noise(task.system.shows(x, None, aside(task.noise)))
    grid = task.model.grid(task.model.process.pace)
    if source.strength == 1.0 and not bool(task.model.process.alpha(grid.times[0]).any()):
        return task.from_noise()  # nothing is left of the picture: the same noise makes the same as without it
    z = task.encode(x)
    if source.strength == 0.0:
        return z
    grid = tail(grid, source.strength)
    x = task.model.process.add_noise(z, task.noise.draw(z), grid.times[0])
    return task.walk(x, grid, task.model.condition(task.cond, task.noise))


def finish(task: Task, source: FromPicture, pictures: Sequence[Picture]) -> list[Picture]:
    """The pictures as they leave: with strength 0 the file's own pixels, which no codec has touched."""
    if source.strength > 0.0:
        return list(pictures)
    same = Picture.from_pil(_picture(task, source)).pixels
    return [replace(picture, pixels=same) for picture in pictures]


def _picture(task: Task, source: FromPicture) -> Image.Image:
    return placed(over_white(source.path, task.system.spec.channels), task.size, source.resize)


def tail(grid: Grid, strength: float) -> Grid:
    """The last floor(N strength) steps of a grid. Raises `UsageError` where that is none."""
    kept = int(len(grid) * strength)
    if kept < 1:
        raise UsageError(
            f"With {len(grid)} steps, strength {strength:g} leaves no step to walk. Ask for at least "
            f"{math.ceil(1 / strength)} steps, or for more strength."
        )
    return Grid(grid.times[-kept - 1 :], None if grid.clocks is None else grid.clocks[-kept:])
