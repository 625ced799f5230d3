"""Pictures found again among those that a style-based generator can make.

Abdal, Qin & Wonka 2019, "Image2StyleGAN" (arXiv 1904.03189); see `edits.gan_inversion`. Book: chapter 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.media import Picture
from huggingvis.core.request import Request
from huggingvis.core.system import System
from huggingvis.edits.exploring import Finding, Tiles, shown
from huggingvis.edits.gan_inversion import Search, W, WPlus, invert
from huggingvis.nets.stylegan import StyleGenerator

DRAWS = 16
"""Draws that tell how far the generator's own pictures lie apart."""


@final
@dataclass(frozen=True)
class Exploration:
    """Each picture above the nearest one that the generator makes; the styles found are kept as `ws`.

    Attributes:
        space: W, one style for all layers, or WPlus, one for each.
        steps: of the search.
        lr: its largest learning rate.
    """

    space: W | WPlus = W()
    steps: int = 500
    lr: float = 0.1

    def __call__(self, system: System, pictures: Sequence[Picture]) -> Finding:
        model = system.generator(Request())
        if not isinstance(model, StyleGenerator):
            raise UsageError(
                f"{system.spec.name!r} is a {type(model).__name__}; only style-based generators are inverted. Train "
                "one with `hvis train stylegan`, or give an official .pkl file."
            )
        x = system.signals(pictures)
        found = invert(model, x, self.space, Search(self.steps, self.lr))
        decibels = [round(float(d), 2) for d in found.psnr]
        captions = ("",) * len(x) + tuple(f"{d:.1f} dB" for d in decibels)
        tiles = Tiles(
            [*shown(system, x), *shown(system, found.pictures)], len(x), ("picture", "inverted"), captions=captions
        )
        text = f"{len(x)} pictures inverted, {sum(decibels) / len(decibels):.2f} dB on average."
        far = not_reached(found.pictures, x, system.sample(DRAWS))
        record = {"psnr_db": decibels, "not_reached": far}
        return Finding(tiles, text, record, {"ws": found.ws}, (told(far, self.steps),) if far else ())


def not_reached(found: Tensor, x: Tensor, draws: Tensor) -> list[int]:
    """Which of the pictures x [B, C, H, W], numbered from 1, the search left further away than any of the draws
    [N, C, H, W] is from the next of them."""
    flat = draws.flatten(1)
    apart = torch.cdist(flat, flat).fill_diagonal_(float("inf")).amin(1).amax()
    return [i for i, d in enumerate((found - x).flatten(1).norm(dim=1), start=1) if d > apart]


def told(far: list[int], steps: int) -> str:
    """The same in sentences. Whether the picture or the search is to blame was not measured."""
    return (
        f"What {steps} steps found for picture {', '.join(map(str, far))} is further from it than any of {DRAWS} draws "
        "of the model is from the next of them, so its styles say little of it. Search on with more steps; if that "
        "brings it no nearer, the model makes no such pictures."
    )
