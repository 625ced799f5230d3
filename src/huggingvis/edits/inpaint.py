"""Inpainting: a part of a picture is made anew, the rest stays.

A net trained for it sees the mask and the masked picture beside x_t (Rombach et al. 2022, arXiv 2112.10752, Sec. 4.5;
nine channels in Stable Diffusion). Any other net is blended: after each step what is known is put back, noised to the
same level with one and the same noise (Song et al. 2020, arXiv 2011.13456, App. I.2; Avrahami, Fried & Lischinski 2022,
arXiv 2206.02779). Book: chapter 6, "Inpainting".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from huggingvis.core.errors import UsageError
from huggingvis.core.noise import Noise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Bound
from huggingvis.core.request import Inpaint
from huggingvis.core.sample import Sampler, State
from huggingvis.core.streams import aside
from huggingvis.edits.from_picture import tail
from huggingvis.edits.task import Task

SYSTEM = {
    "name": "Inpainting",
    "chapter": 6,
    "paper": "2112.10752",
    "files": [
        "systems/latent_diffusion.py",
        "edits/task.py",
    ],
    "built": "tests/walks/test_diffusers_folders.py::test_a_folder_makes_pictures[inpaint]",
    "exact": [
        "tests/interop/test_pipelines.py::test_inpainting_by_a_net_that_sees_the_mask",
        "tests/interop/test_pipelines.py::test_inpainting_by_blending",
    ],
    "trained": None,
    "explained": None,
    "usable": None,
}


@final
@dataclass(frozen=True)
class Blended(Sampler):
    """`inner`, with what is known put back after each step.

    `hole` [B, 1, h, w]: 1 where x is made anew. `known` x_0 and its noise `eps`, [B, C, h, w].
    """

    inner: Sampler
    hole: Tensor
    known: Tensor
    eps: Tensor

    @property
    def order(self) -> int:  # type: ignore[override]
        """That of `inner`."""
        return self.inner.order

    def init(self) -> State:
        return self.inner.init()

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        x, state = self.inner.step(denoise, process, x, t, s, state, noise)
        return torch.where(self.hole > 0, x, process.add_noise(self.known, self.eps, s)), state


def sample(task: Task, source: Inpaint) -> Tensor:
    """Samples [n, ...] in the model's space. Raises `FileProblem` or `UsageError` for pictures that cannot be used."""
    x, hole = task.picture(source.path), task.mask(source.mask)
    z = task.encode(x)
    small = F.interpolate(hole, z.shape[-2:])  # [n, 1, h, w]
    if not bool(small.any()):
        raise UsageError(
            f"What is white in the mask {source.mask} is too small to be seen among {z.shape[-1]}x{z.shape[-2]} "
            "latents, so nothing would be made anew. Paint a larger part white."
        )
    model = task.model
    grid = model.grid(model.process.pace)
    eps = task.noise.draw(z)
    if source.strength < 1.0:
        grid = tail(grid, source.strength)
        start = model.process.add_noise(z, eps, grid.times[0])
    else:
        start = eps if model.unit else eps * model.process.sigma(grid.times[0]).to(eps.dtype)
    if task.system.shows is not None:
        shown = {**task.cond, **task.system.shows(x, hole, aside(task.noise))}
        return task.walk(start, grid, model.condition(shown, task.noise))
    model = replace(model, sampler=Blended(model.sampler, small, z, eps))
    blended = model.condition(task.cond, task.noise)
    x = model.walk(start, grid, blended, noise=task.noise, on_step=task.on_step)
    return torch.where(small > 0, x, z)  # a grid may end a little above clean
