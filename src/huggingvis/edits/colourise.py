r"""Colourising: a grey picture gets colours by replacement, from a model of coloured pixels that knows of no grey ones.

Song et al. 2020, arXiv 2011.13456, App. I.3: the three channels of a pixel are turned by an orthonormal matrix M,

    y = M (r, g, b)^T,     M = [ 1   1   1] / sqrt 3        y_1 is sqrt 3 times the grey, which is known
                               [-2   1   1] / sqrt 6        y_2 and y_3 are the colour, of which nothing is
                               [ 0   1  -1] / sqrt 2

and filling in y_2 and y_3 is inpainting (App. I.2): after each step y_1 is put back, noised afresh to the level that
was reached, and x = M^T y is walked on. M is orthonormal, so normal noise stays what it is. A corrector belongs to its
predictor's step; the paper puts y_1 back between the two as well. `edits.repaint` has the step, and the jumps that take
away the bias of replacement.

Grey and colour together may leave [-1, 1]. Cutting the channels off there would change the grey, so the colour is made
paler instead, just until it fits: grey and hue stay. Rounding three channels to 8 bits then moves their sum by one
level at most, and the mean of a grey file's channels, rounded, is the file's. Book: chapter 6, "Colourising".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from huggingvis.codecs.pixels import Pixels
from huggingvis.core.errors import UsageError
from huggingvis.core.media import Picture
from huggingvis.core.picture_files import over_white
from huggingvis.core.request import Colourise, Request
from huggingvis.core.sampler import Sampler
from huggingvis.core.system import System
from huggingvis.edits.placing import placed
from huggingvis.edits.repaint import Replaced, jumping
from huggingvis.edits.task import Task

SYSTEM = {
    "name": "Colourising by replacement",
    "chapter": 6,
    "paper": "2011.13456",
    "files": [
        "edits/repaint.py",
        "edits/placing.py",
    ],
    "built": "tests/walks/test_colourising.py::test_a_grey_picture_gets_colours_and_keeps_its_grey",
    "exact": [
        "tests/oracle/test_colourising.py::test_it_is_inpainting_of_the_turned_mixture",
        "tests/oracle/test_colourising.py::test_colours_come_to_their_exact_mean",
        "tests/oracle/test_colourising.py::test_colours_come_to_the_law_given_the_grey",
        "tests/oracle/test_colourising.py::test_colours_that_do_not_fit_are_paler",
    ],
    "trained": "benchmarks/curves/replacement.json",
    "explained": None,
    "usable": None,
}


def asked(system: System, request: Request, source: Colourise) -> Request:
    """What the model is asked for: the request itself. Raises `UsageError` for a model without coloured pixels."""
    name, way = system.spec.name, "Use a model of coloured pixels, as `hvis train score_sde` makes of coloured pictures"
    if system.spec.channels != 3:
        raise UsageError(f"{name!r} draws grey pictures and knows no colours. {way}.")
    if not isinstance(system.codec, Pixels):
        raise UsageError(
            f"{name!r} does not work on red, green and blue but on what its {type(system.codec).__name__} makes of "
            f"them, where the grey is no part by itself that could be kept. {way}, or start from the grey picture by "
            "image-to-image (--image with --strength)."
        )
    return request


def sample(task: Task, source: Colourise) -> Tensor:
    """Pictures [n, 3, H, W] in [-1, 1]. Raises `FileProblem` or `UsageError` for a picture that cannot be used."""
    model, noise = task.model, task.noise
    image = placed(over_white(source.path), task.size, source.resize)
    grey = task.tensor(image).mean(1, keepdim=True)  # [n, 1, H, W]
    held = keeping(grey, model.sampler)
    grid = jumping(model.grid(model.process.pace), source.jump, source.resamples)
    x = held.put_in(model.start(task.n, grid, noise), model.process, grid.times[0], noise)
    cond = model.condition(task.cond, noise)
    x = replace(model, sampler=held).walk(x, grid, cond, noise=noise, on_step=task.on_step)
    return paler(held.joined(x, held.known), grey)  # a grid may end a little above clean


def finish(task: Task, source: Colourise, pictures: Sequence[Picture]) -> list[Picture]:
    """The pictures as they are."""
    return list(pictures)


def grey_first() -> Tensor:
    """M [3, 3], orthonormal, float64."""
    rows = torch.tensor([[1.0, 1.0, 1.0], [-2.0, 1.0, 1.0], [0.0, 1.0, -1.0]], dtype=torch.float64)
    return rows / rows.norm(dim=1, keepdim=True)


def keeping(grey: Tensor, sampler: Sampler) -> Replaced:
    """`sampler` for x [B, 3, ...] the mean of whose channels is `grey` [B, 1, ...]."""
    colour = torch.tensor([0.0, 1.0, 1.0]).to(grey).reshape(3, *[1] * (grey.ndim - 2))  # y_2 and y_3
    known = grey.expand(-1, 3, *grey.shape[2:])
    return Replaced(sampler, colour, known, basis=grey_first())


def paler(x: Tensor, grey: Tensor) -> Tensor:
    """x [B, 3, ...] within [-1, 1]: x - grey of a pixel times the largest number up to 1 that brings it there."""
    colour = x - grey
    room = torch.where(colour > 0, 1 - grey, 1 + grey)
    least = torch.finfo(x.dtype).tiny  # channels without a colour fit
    return grey + colour * (room / colour.abs().clamp(min=least)).amin(1, keepdim=True).clamp(max=1.0)
