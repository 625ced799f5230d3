"""Pairs of noise and the picture that a trained model makes of it: what reflow learns from.

They are made by the library's own samplers and kept in the run folder in pieces, so a killed training goes on with the
piece it was at. Noise is not kept: it comes again from its seed. Book: chapter 4, "Rectified flow".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from huggingvis.core.classes import ANY, one_hot
from huggingvis.core.diffusion import Diffusion, NetDenoiser
from huggingvis.core.errors import UsageError
from huggingvis.core.noise import ReplayNoise, SeedNoise
from huggingvis.core.protocols import Batch
from huggingvis.data.cache import ArrayCache
from huggingvis.data.draws import stable_hash
from huggingvis.nets.unet import UNet
from huggingvis.recipes.pictures import permutation
from huggingvis.recipes.sampler_facts import calls_of
from huggingvis.train.progress import reporter
from huggingvis.train.run import Run

PIECE = 256


@final
@dataclass(frozen=True)
class Law:
    """Which noise and which label pair number i has: noise by a seed of its own, labels evenly.

    `classes`: how many there are, 0 for a model that knows none. `empty`: share of pairs of no class.
    """

    shape: tuple[int, ...]
    classes: int
    empty: float
    seed: int

    def noise(self, numbers: np.ndarray) -> Tensor:
        """eps [B, *shape] float32."""
        seeds = [stable_hash("pair", self.seed, int(i)) % 2**63 for i in numbers]
        return SeedNoise(seeds).draw(torch.empty(len(numbers), *self.shape))

    def labels(self, numbers: np.ndarray) -> Tensor:
        """[B] int64."""

        def label(i: int) -> int:
            drawn = stable_hash("label", self.seed, i)
            return ANY if drawn % 10_000 < 10_000 * self.empty else drawn // 10_000 % self.classes

        return torch.tensor([label(int(i)) for i in numbers], dtype=torch.int64)


@final
@dataclass(frozen=True)
class Teacher:
    """A trained model that makes pictures of noise, on the device it lies on. `name`: what it is, for the cache.

    Raises `UsageError` for a sampler that draws noise on the way, for then noise does not decide the picture.
    """

    model: Diffusion
    law: Law
    name: dict[str, Any]

    def __post_init__(self) -> None:
        if calls_of(self.model.sampler)[1]:
            asked = self.name["sampling"]["sampler"]
            raise UsageError(
                f"Reflow needs pictures that their first noise decides, and the sampler {asked!r} draws more on the "
                "way. Use one that does not, such as heun-flow, euler or dpm++2m."
            )

    @property
    def net(self) -> UNet:
        """The network that believes."""
        believes = self.model.denoise
        if not (isinstance(believes, NetDenoiser) and isinstance(believes.net, UNet)):
            raise UsageError(f"Reflow's student is a U-Net like its teacher, which is a {type(believes).__name__}.")
        return believes.net

    @torch.no_grad()
    def pictures(self, numbers: np.ndarray) -> np.ndarray:
        """float16 [B, *shape]: what becomes of the noise of the pairs `numbers`."""
        device, cond = self.model.device, dict[str, Tensor]()
        if self.law.classes:
            cond["vector"] = one_hot(self.law.labels(numbers), self.law.classes).to(device)  # [B, K]
            cond["negative.vector"] = torch.zeros_like(cond["vector"])
        noise = ReplayNoise([self.law.noise(numbers).to(device)])
        return self.model.sample(len(numbers), cond, noise=noise).half().cpu().contiguous().numpy()


@final
class Pairs:
    """`Batches` of `x0`, its noise `eps` [B, *shape] and, with classes, `label` [B], for the pairs `numbers` [N].

    The order changes with each epoch, as that of pictures does. `run`: the folder that keeps what is made, and who
    makes which part of it.
    """

    def __init__(self, teacher: Teacher, numbers: np.ndarray, run: Run, progress: bool | None = None):
        self.law, self.numbers = teacher.law, numbers
        cache, parallel = ArrayCache(run.path / "pairs"), run.parallel
        pieces = np.split(numbers, range(PIECE, len(numbers), PIECE))

        def made(piece: np.ndarray) -> np.ndarray:
            key = {**teacher.name, "first": int(piece[0]), "count": len(piece)}
            return cache.get_or_make(key, lambda: {"x0": teacher.pictures(piece)})["x0"]

        spoken = reporter(0, len(numbers), progress, parallel.writes)
        for piece in pieces[parallel.rank :: parallel.world]:
            made(piece)
            spoken.show(int(piece[-1] - numbers[0]) + 1, {})
        spoken.close()
        parallel.barrier()
        self.pieces = [made(piece) for piece in pieces]  # memory-mapped [<= PIECE, *shape]

    def batch(self, index: int, size: int) -> Batch:
        count = len(self.numbers)
        epochs, within = np.divmod(np.arange(index * size, (index + 1) * size), count)
        orders = {epoch: permutation(count, self.law.seed, int(epoch)) for epoch in np.unique(epochs)}
        places = np.array([orders[epoch][place] for epoch, place in zip(epochs, within, strict=True)])
        x0 = np.stack([self.pieces[place // PIECE][place % PIECE] for place in places])
        numbers = self.numbers[places]
        out = {"x0": torch.from_numpy(x0).float(), "eps": self.law.noise(numbers)}
        return {**out, "label": self.law.labels(numbers)} if self.law.classes else out
