"""A walk of our system bound from a folder that a pipeline of diffusers wrote, for comparison with the pipeline's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from huggingvis.core.diffusion import Diffuses, Diffusion
from huggingvis.core.noise import ReplayNoise
from huggingvis.core.request import Request
from huggingvis.core.system import System
from huggingvis.edits import starting
from huggingvis.edits.task import Task
from huggingvis.systems.pipelines import How, bind_folder


def bound(made: Any, folder: Path) -> System:
    made.save_pretrained(folder)
    return bind_folder(folder, How())


def diffusion(system: System, asked: Request) -> Diffusion:
    """What the system's generator is for that request: these folders hold nothing but diffusions."""
    model = system.generator(asked)
    assert isinstance(model, Diffuses)
    return model.diffusion


@torch.inference_mode()
def latents(system: System, asked: Request, noise: list[Tensor]) -> Tensor:
    cond = system.conditioner([asked])
    task = Task(system, asked, system.generator(asked), 1, cond, ReplayNoise(noise))
    return starting.sample(task)


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    """Latents within 1e-4 of the largest; theirs carry their scale as ours do."""
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) <= 1e-4 * max(1.0, float(theirs.abs().max()))
