"""Inpainting: a part of a picture is made anew, the rest stays.

A net trained for it sees the mask and the masked picture beside x_t (Rombach et al. 2022, arXiv 2112.10752, Sec. 4.5;
nine channels in Stable Diffusion). Any other net is blended: after each step what is known is put back, noised to the
same level with one and the same noise (Song et al. 2020, arXiv 2011.13456, App. I.2; Avrahami, Fried & Lischinski 2022,
arXiv 2206.02779). RePaint resamples; `edits.repaint` has the sampler of both. A codec changes every pixel a little, so
in the end the picture's own pixels are put back: p = (k new + (255 - k) old) / 255 with k the mask, to the bit the old
ones where k is 0. Book: chapter 6, "Inpainting".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from huggingvis.core.diffusion import Diffusion
from huggingvis.core.errors import UsageError
from huggingvis.core.grid import Grid
from huggingvis.core.media import Picture
from huggingvis.core.picture_files import open_picture, over_white
from huggingvis.core.request import Inpaint, Request
from huggingvis.core.resizing import Box, place_on
from huggingvis.core.streams import aside
from huggingvis.core.system import System
from huggingvis.edits.from_picture import tail
from huggingvis.edits.placing import NEAREST, around, feathered, mixed, placed, surroundings
from huggingvis.edits.repaint import Replaced, jumping
from huggingvis.edits.task import Task

SYSTEM = {
    "name": "Inpainting",
    "chapter": 6,
    "paper": "2112.10752",
    "files": [
        "systems/latent_diffusion.py",
        "edits/task.py",
        "edits/placing.py",
        "edits/repaint.py",
        "recipes/image/inpainting.py",
    ],
    "built": "tests/walks/test_diffusers_folders.py::test_a_folder_makes_pictures[inpaint]",
    "exact": [
        "tests/interop/test_pipelines.py::test_inpainting_by_a_net_that_sees_the_mask",
        "tests/interop/test_pipelines.py::test_inpainting_by_blending",
        "tests/walks/test_inpainting.py::test_known_pixels_are_the_file_s_own",
        "tests/walks/test_inpainting.py::test_a_soft_mask_mixes_by_the_formula",
    ],
    "trained": "benchmarks/trained/inpainting.json",
    "explained": None,
    "usable": None,
}


HALF = 128
"""The grey from which a mask is white."""


@final
@dataclass(frozen=True)
class Work:
    """A picture with a hole, as a model works on it and as it is put together again.

    `base` is the whole picture, `weight` uint8 [H, W] how much of the new one is seen in it (255 all). The model works
    on the part `box`, which lies `at` a place of a canvas as `image`, with the `hole` bool there.
    """

    base: Image.Image
    weight: np.ndarray
    box: Box
    at: Box
    image: Image.Image
    hole: np.ndarray

    def together(self, new: Image.Image, paste: bool) -> np.ndarray:
        """The whole picture with what was made on the canvas, uint8 [H, W, C]; `paste`: only as `weight` says."""
        part = new if self.at == (0, 0, *new.size) else new.crop(self.at)
        if part.size != self.box.size:
            part = part.resize(self.box.size, Image.Resampling.LANCZOS)
        whole = self.base.copy()
        whole.paste(part, (self.box.left, self.box.top))
        old, made = Picture.from_pil(self.base).pixels, Picture.from_pil(whole).pixels
        return mixed(made, old, self.weight) if paste else made


def asked(system: System, request: Request, source: Inpaint) -> Request:
    """What the model is asked for: the request itself."""
    return request


def sample(task: Task, source: Inpaint) -> Tensor:
    """Samples [n, ...] in the model's space. Raises `FileProblem` or `UsageError` for pictures that cannot be used."""
    return made_anew(task, work_of(task, source), source)


def finish(task: Task, source: Inpaint, pictures: Sequence[Picture]) -> list[Picture]:
    """The pictures with the file's own pixels put back."""
    return put_back(work_of(task, source), source, pictures)


def put_back(work: Work, source: Inpaint, pictures: Sequence[Picture]) -> list[Picture]:
    """As `Work.together`; with strength 0 the picture as it was."""
    if source.strength == 0.0:
        same = Picture.from_pil(work.base).pixels
        return [replace(picture, pixels=same) for picture in pictures]
    return [replace(p, pixels=work.together(p.to_pil().convert(work.base.mode), source.paste)) for p in pictures]


# ---- the picture and its hole ----------------------------------------------------------------------------------------


def work_of(task: Task, source: Inpaint) -> Work:
    """Picture and mask on the canvas. Raises `FileProblem` for files that cannot be read, `UsageError` for a mask of
    another shape and one that leaves nothing to do."""
    picture = over_white(source.path, task.system.spec.channels)
    told = _mask(source, picture.size)
    if source.region == "whole":
        soft = np.array(_placed_mask(told, picture.size, task.size, source))
        hole = soft >= HALF
        _check_something(hole, told, source)
        base, at = placed(picture, task.size, source.resize), Box(0, 0, *task.size)
        return Work(base, _weight(soft, hole, source), at, at, base, hole)
    sized = told if told.size == picture.size else told.resize(picture.size, _how(source))
    soft = np.array(sized)
    hole = soft >= HALF
    _check_something(hole, told, source)
    weight = _weight(soft, hole, source)
    box = around((weight > 0) | hole, source.padding, task.size)
    image = placed(picture.crop(box), task.size, "fill")
    cut = placed(
        Image.fromarray(hole[box.top : box.bottom, box.left : box.right]).convert("L"), task.size, "fill", NEAREST
    )
    return Work(picture, weight, box, place_on(task.size, box.size, "fill"), image, np.array(cut) >= HALF)


def _mask(source: Inpaint, picture: tuple[int, int]) -> Image.Image:
    """The mask's file as greys, white where the picture is made anew."""
    told = open_picture(source.mask).to_pil().convert("L")
    (w, h), (width, height) = told.size, picture
    if abs(w * height - h * width) > max(w, h, width, height):
        raise UsageError(
            f"The mask {source.mask} is {w}x{h} pixels and the picture {source.path} {width}x{height}: they are of "
            f"different shapes, so it is not known what lies where. Make the mask {width}x{height}, or of that shape."
        )
    return Image.fromarray(255 - np.array(told)) if source.invert else told


def _how(source: Inpaint) -> Image.Resampling:
    """A hard mask has no half tones."""
    return Image.Resampling.BILINEAR if source.soft else NEAREST


def _placed_mask(told: Image.Image, picture: tuple[int, int], canvas: tuple[int, int], source: Inpaint) -> Image.Image:
    """A mask goes the way of its picture."""
    if source.resize != "stretch" and told.size != picture:
        told = told.resize(picture, _how(source))
    return placed(told, canvas, source.resize, _how(source))


def _weight(soft: np.ndarray, hole: np.ndarray, source: Inpaint) -> np.ndarray:
    """How much of the new picture is seen, uint8 [H, W]."""
    return feathered(soft if source.soft else hole.astype(np.uint8) * 255, source.blur)


def _check_something(hole: np.ndarray, told: Image.Image, source: Inpaint) -> None:
    if hole.any():
        return
    most = int(np.array(told).max())
    if source.invert:
        raise UsageError(
            f"Nothing in the mask {source.mask} is black: its darkest spot is {255 - most} of 255, and what is made "
            "anew with an inverted mask ends at 127. Paint that black and the rest white, or do not invert it."
        )
    raise UsageError(
        f"Nothing in the mask {source.mask} is white: its brightest spot is {most} of 255, and what is made anew "
        "begins at 128. Paint that white and the rest black; transparency is not looked at."
    )


# ---- the walk --------------------------------------------------------------------------------------------------------


def made_anew(task: Task, work: Work, source: Inpaint) -> Tensor:
    """Latents [n, ...] of the canvas with its hole filled, by the numbers of `source`."""
    x, hole = task.tensor(work.image), task.holes(work.hole)
    z = task.encode(x)
    small = F.interpolate(hole, z.shape[-2:])  # [n, 1, h, w]
    if not bool(small.any()):
        raise UsageError(
            f"What is white in the mask {source.mask} is too small to be seen among {z.shape[-1]}x{z.shape[-2]} "
            "latents, so nothing would be made anew. Paint a larger part white."
        )
    if source.strength == 0.0:
        return z
    model = task.model
    grid = model.grid(model.process.pace)
    eps = task.noise.draw(z)
    if source.strength < 1.0:
        grid = tail(grid, source.strength)
        start = model.process.add_noise(_under(task, work, source, z, small), eps, grid.times[0])
    else:
        start = eps if model.unit else eps * model.process.sigma(grid.times[0]).to(eps.dtype)
    shows, cond = task.system.shows, task.cond
    if shows is not None:
        cond = {**cond, **shows(x, hole, aside(task.noise))}
    if shows is not None and source.method == "auto":
        return task.walk(start, grid, model.condition(cond, task.noise))
    model, grid = _held(model, grid, source, z, small, eps)
    x = model.walk(start, grid, model.condition(cond, task.noise), noise=task.noise, on_step=task.on_step)
    return torch.where(small > 0, x, z)  # a grid may end a little above clean


def _held(
    model: Diffusion, grid: Grid, source: Inpaint, z: Tensor, small: Tensor, eps: Tensor
) -> tuple[Diffusion, Grid]:
    """The model that keeps what is known, and the grid that it walks."""
    if source.method == "repaint":
        return replace(model, sampler=Replaced(model.sampler, small, z)), jumping(grid, source.jump, source.resamples)
    return replace(model, sampler=Replaced(model.sampler, small, z, eps)), grid


def _under(task: Task, work: Work, source: Inpaint, z: Tensor, small: Tensor) -> Tensor:
    """What lies under the mask before the noise; outside of it what is known."""
    if source.fill == "original":
        return z
    if source.fill == "fill":
        return torch.where(small > 0, task.encode(task.tensor(surroundings(work.image, work.hole))), z)
    return torch.where(small > 0, task.noise.draw(z) if source.fill == "noise" else torch.zeros_like(z), z)
