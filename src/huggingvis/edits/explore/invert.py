"""Pictures found again among those that a style-based generator can make.

Abdal, Qin & Wonka 2019, "Image2StyleGAN" (arXiv 1904.03189); see `edits.gan_inversion`. Book: chapter 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from huggingvis.core.errors import UsageError
from huggingvis.core.media import Picture
from huggingvis.core.request import Request
from huggingvis.core.system import System
from huggingvis.edits.exploring import Finding, Tiles, shown, signals
from huggingvis.edits.gan_inversion import Search, W, WPlus, invert
from huggingvis.nets.stylegan import StyleGenerator


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
        x = signals(system, pictures)
        found = invert(model, x, self.space, Search(self.steps, self.lr))
        decibels = [round(float(d), 2) for d in found.psnr]
        captions = ("",) * len(x) + tuple(f"{d:.1f} dB" for d in decibels)
        tiles = Tiles(
            [*shown(system, x), *shown(system, found.pictures)], len(x), ("picture", "inverted"), captions=captions
        )
        text = f"{len(x)} pictures inverted, {sum(decibels) / len(decibels):.2f} dB on average."
        return Finding(tiles, text, {"psnr_db": decibels}, {"ws": found.ws})
