r"""Inversion of a style-based generator: the styles whose picture is the given one.

    w* = argmin_w  |G(w) - x|^2 / N + lambda P(G(w), x)

by Adam, from the mean style (Abdal, Qin & Wonka 2019, "Image2StyleGAN", arXiv 1904.03189, Eq. 1 and Sec. 5.1). In W one
style serves all layers and stays close to what the generator was trained on; in W+ each layer has its own, which fits
pictures that no single style gives. P is any perceptual distance. Rate as in StyleGAN2's projector (1912.04958, App.
D): it rises linearly for a twentieth of the steps and falls as a cosine over the last quarter. Book: chapter 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor

from huggingvis.core.errors import NumericalTrouble, UsageError
from huggingvis.metrics.psnr import psnr
from huggingvis.nets.layer_noise import LayerNoise, StoredNoise
from huggingvis.nets.stylegan import StyleGenerator

Perceptual = Callable[[Tensor, Tensor], Tensor]
"""A distance of pictures [B, C, H, W] and [B, C, H, W]: [B] or []."""


class Space(Protocol):
    """Which styles are searched."""

    def start(self, mean: Tensor, n: int, layers: int) -> Tensor:
        """The variable from which the search begins, from the mean style [D]."""
        ...

    def styles(self, variable: Tensor, layers: int) -> Tensor:
        """Styles [n, L, D] of the variable."""
        ...


@final
@dataclass(frozen=True)
class W:
    """One style for all layers of a picture, [n, D]."""

    def start(self, mean: Tensor, n: int, layers: int) -> Tensor:
        return mean.expand(n, -1).clone()

    def styles(self, variable: Tensor, layers: int) -> Tensor:
        return variable[:, None].expand(-1, layers, -1)


@final
@dataclass(frozen=True)
class WPlus:
    """A style for each layer of a picture, [n, L, D]."""

    def start(self, mean: Tensor, n: int, layers: int) -> Tensor:
        return mean.expand(n, layers, -1).clone()

    def styles(self, variable: Tensor, layers: int) -> Tensor:
        return variable


@dataclass(frozen=True)
class Search:
    """Numbers of the optimisation.

    Attributes:
        steps: of Adam.
        lr: its largest learning rate.
        perceptual: weight of the perceptual distance beside the mean squared error.
    """

    steps: int = 500
    lr: float = 0.1
    perceptual: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.lr <= 0:
            raise UsageError(f"An inversion needs steps and a positive rate, found {self.steps} and {self.lr}.")

    def rate(self, step: int) -> float:
        """Learning rate of step `step` (0 is the first)."""
        t = (step + 1) / self.steps
        fall = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - t + 1 / self.steps) / 0.25))
        return self.lr * fall * min(1.0, t / 0.05)


@dataclass(frozen=True, eq=False)
class Inverted:
    """What was found: styles [B, L, D], their pictures [B, C, H, W], and how near these are, dB [B]."""

    ws: Tensor
    pictures: Tensor
    psnr: Tensor


def invert(
    generator: StyleGenerator,
    x: Tensor,
    space: Space | None = None,
    search: Search | None = None,
    *,
    perceptual: Perceptual | None = None,
    noise: LayerNoise | None = None,
    start: Tensor | None = None,
) -> Inverted:
    """Styles whose pictures are x [B, C, H, W] in [-1, 1], each picture on its own.

    `noise` of the layers: the stored one unless given. `start`: the variable to go on from (see `Space`), the mean
    style unless given. Raises `UsageError` for pictures of another size, `NumericalTrouble` if the search diverges.
    """
    space, search, noise = space or W(), search or Search(), noise or StoredNoise()
    frozen = [(p, p.requires_grad) for p in generator.parameters()]
    generator.requires_grad_(False)
    try:
        first = space.start(generator.w_avg, len(x), generator.layers) if start is None else start.detach().clone()
        variable = first.requires_grad_(True)
        _check(generator, x, space.styles(variable, generator.layers), noise)
        optimiser = torch.optim.Adam([variable], lr=search.lr, betas=(0.9, 0.999))
        with torch.enable_grad():
            for step in range(search.steps):
                optimiser.param_groups[0]["lr"] = search.rate(step)
                y = generator.paint(space.styles(variable, generator.layers), noise)
                loss = (y - x).square().flatten(1).mean(1).sum()  # a sum: no picture's step depends on the others
                if perceptual is not None:
                    loss = loss + search.perceptual * perceptual(y, x).sum()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        return _result(generator, x, space.styles(variable.detach(), generator.layers), noise)
    finally:
        for p, trained in frozen:
            p.requires_grad_(trained)


@torch.no_grad()
def _check(generator: StyleGenerator, x: Tensor, ws: Tensor, noise: LayerNoise) -> None:
    made = generator.paint(ws[:1], noise).shape[1:]
    if x.shape[1:] != made:
        raise UsageError(
            f"This generator makes pictures of {list(made)} (channels, height, width), the one to invert has "
            f"{list(x.shape[1:])}. Resize it, and give it as many channels."
        )


@torch.no_grad()
def _result(generator: StyleGenerator, x: Tensor, ws: Tensor, noise: LayerNoise) -> Inverted:
    y = generator.paint(ws, noise)
    if not y.isfinite().all():
        raise NumericalTrouble("The inversion diverged: its styles give no finite picture. Lower the learning rate.")
    return Inverted(ws, y, psnr(y, x, data_range=2.0))
