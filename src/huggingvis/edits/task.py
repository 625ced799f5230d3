"""What every edit is given: the system, its model with the request's numbers, the condition and the noise.

Book: chapter 6, "Where to start, where to stop".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from huggingvis.core.diffusion import Diffuses, Diffusion
from huggingvis.core.errors import UsageError
from huggingvis.core.grid import Grid
from huggingvis.core.media import Picture
from huggingvis.core.noise import Noise
from huggingvis.core.protocols import Cond, Encodes, EncodesByChance, Generative, OnStep
from huggingvis.core.request import Request
from huggingvis.core.streams import aside
from huggingvis.core.system import System, canvas_of


@dataclass(frozen=True)
class Task:
    """`n` pictures of `request` by `model`; `cond` is prepared, `noise` has a stream for each."""

    system: System
    request: Request
    generator: Generative
    n: int
    cond: Cond
    noise: Noise
    on_step: OnStep | None = None

    @property
    def model(self) -> Diffusion:
        """The diffusion behind the pictures. Raises `UsageError` for a model of another kind."""
        if not isinstance(self.generator, Diffuses):
            raise UsageError(
                f"{self.system.spec.name!r} makes pictures in one go and cannot start from one. Leave the picture out, "
                "or use a diffusion model."
            )
        return self.generator.diffusion

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the pictures."""
        return canvas_of(self.request, self.system.spec)

    def from_noise(self, more: Mapping[str, Tensor] | None = None) -> Tensor:
        """Samples from noise, with `more` in the condition."""
        cond = {**self.cond, **(more or {})}
        return self.generator.sample(self.n, cond, noise=self.noise, on_step=self.on_step)

    def walk(self, x: Tensor, grid: Grid, cond: Cond) -> Tensor:
        """From x along the grid."""
        return self.model.walk(x, grid, cond, noise=self.noise, on_step=self.on_step)

    def tensor(self, image: Image.Image) -> Tensor:
        """A picture of the canvas's size as [n, C, H, W] in [-1, 1]."""
        x = torch.from_numpy(Picture.from_pil(image).to_signal()).to(self.system.device)
        return x.expand(self.n, -1, -1, -1)

    def holes(self, hole: np.ndarray) -> Tensor:
        """bool [H, W] as [n, 1, H, W], 1 where true."""
        return torch.from_numpy(hole).float()[None, None].to(self.system.device).expand(self.n, -1, -1, -1)

    def encode(self, x: Tensor) -> Tensor:
        """Latents of pictures, drawn where the codec has a law of them. Raises `UsageError` where there are none."""
        codec = self.system.codec
        if not isinstance(codec, Encodes):
            raise UsageError(f"{self.system.spec.name!r} has no encoder, so it cannot start from a picture.")
        return codec.encode(x, aside(self.noise)) if isinstance(codec, EncodesByChance) else codec.encode(x)
