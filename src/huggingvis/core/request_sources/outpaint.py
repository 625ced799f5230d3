"""A picture that grows: the numbers of `edits.outpaint`. Book: chapter 6, "Outpainting"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from huggingvis.core import rules
from huggingvis.core.errors import UsageError
from huggingvis.core.request_sources.kind import LONGEST_MARGIN, Method, SourceKind, check_resampling, check_started

Ground = Literal["edge", "blur", "noise"]
"""What lies on new canvas before the noise: the picture's edge drawn out, blurred surroundings, latent noise."""


@dataclass(frozen=True)
class Outpaint(SourceKind):
    """A picture that grows: new canvas around it is made up, the picture itself stays as it is, to the bit."""

    flag: ClassVar[str | None] = "--image grows by N pixels at every side, or as said"
    alone: ClassVar[tuple[str, ...]] = ("left", "right", "top", "bottom")

    path: str  #: the picture's file
    left: int = 0  #: pixels of new canvas at its left
    right: int = 0  #: pixels of new canvas at its right
    top: int = 0  #: pixels of new canvas above it
    bottom: int = 0  #: pixels of new canvas below it
    strength: float = 1.0  #: above 0, to 1: share of the noising that is done and undone on the new canvas
    method: Method = "auto"  #: auto (what the model can), blend or repaint
    ground: Ground = "edge"  #: what lies on the new canvas before the noise: edge, blur or noise
    seam: int = 0  #: pixels of the picture along the new canvas that are made anew too and faded into the old ones
    paste: bool = True  #: the picture's own pixels are put back; else all are as the model decodes
    jump: int = 10  #: repaint: steps that a jump goes back towards noise
    resamples: int = 10  #: repaint: how often each part of the way is walked; 1 is without jumps

    def check(self) -> None:
        check_started(self)
        check_resampling(self.jump, self.resamples)
        rules.share("source.strength", self.strength)
        sides = {"left": self.left, "right": self.right, "top": self.top, "bottom": self.bottom}
        for name, pixels in {**sides, "seam": self.seam}.items():
            rules.whole(f"source.{name}", pixels, 0, LONGEST_MARGIN, unit=" pixels")
        if not any(sides.values()):
            raise UsageError(
                "The picture is to grow by no pixel at any side. Say where there is to be new canvas, as in left=32, "
                "or leave the source out."
            )
