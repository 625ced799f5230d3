"""A walk of our system bound from a folder that a pipeline of diffusers wrote, for comparison with the pipeline's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from huggingvis.core.noise import ReplayNoise
from huggingvis.core.request import FromPicture, Inpaint, Request
from huggingvis.core.system import System
from huggingvis.edits import from_picture, inpaint
from huggingvis.edits.task import Task
from huggingvis.systems.pipelines import How, bind_folder


def bound(made: Any, folder: Path) -> System:
    made.save_pretrained(folder)
    return bind_folder(folder, How())


@torch.inference_mode()
def latents(system: System, asked: Request, noise: list[Tensor]) -> Tensor:
    cond = system.conditioner([asked])
    task = Task(system, asked, system.generator(asked), 1, cond, ReplayNoise(noise))
    if isinstance(asked.source, FromPicture):
        return from_picture.sample(task, asked.source)
    return inpaint.sample(task, asked.source) if isinstance(asked.source, Inpaint) else task.from_noise()


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    """Latents within 1e-4 of the largest; theirs carry their scale as ours do."""
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) <= 1e-4 * max(1.0, float(theirs.abs().max()))
