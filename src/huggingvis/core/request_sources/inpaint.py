"""A part of a picture to be made anew: the numbers of `edits.inpaint`. Book: chapter 6, "Inpainting"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from huggingvis.core import rules
from huggingvis.core.request_sources.kind import LONGEST_MARGIN, Method, SourceKind, check_resampling, check_started
from huggingvis.core.resizing import Resize

Fill = Literal["original", "fill", "noise", "nothing"]
"""What lies under a mask before the noise: what was there, blurred surroundings, latent noise, zero latents."""
Region = Literal["whole", "masked"]
"""What the model works on: the whole picture, or the mask's part."""

WIDEST_BLUR = 1024.0


@dataclass(frozen=True)
class Inpaint(SourceKind):
    """A picture of which one part is made anew. Outside the mask it stays as it is, to the bit."""

    begins: ClassVar[tuple[str | None, str] | None] = ("FromPicture", "mask")
    flag: ClassVar[str | None] = "how the mask is filled"

    path: str  #: the picture's file
    mask: str  #: a picture of the same shape, white where the other is made anew
    strength: float = 1.0  #: 0 to 1: share of the noising that is done and undone there
    method: Method = "auto"  #: auto (what the model can), blend or repaint
    region: Region = "whole"  #: what the model works on: the whole picture, or the mask's part
    padding: int = 32  #: pixels around the mask that belong to the region `masked`
    soft: bool = False  #: grey values of the mask mix old and new; else half grey and more is new, the rest old
    blur: float = 0.0  #: pixels over which old and new are faded into each other along the mask's edge
    fill: Fill = "original"  #: what lies under the mask before the noise: original, fill, noise or nothing
    invert: bool = False  #: black is made anew instead of white
    paste: bool = True  #: the picture's own pixels are put back outside the mask; else all are as the model decodes
    jump: int = 10  #: repaint: steps that a jump goes back towards noise
    resamples: int = 10  #: repaint: how often each part of the way is walked; 1 is without jumps
    resize: Resize = "stretch"  #: how picture and mask come to the canvas's size: stretch, crop or fill

    def files(self) -> tuple[str, ...]:
        return self.path, self.mask

    @property
    def stretched(self) -> bool:
        return self.resize == "stretch" and self.region == "whole"

    def check(self) -> None:
        check_started(self)
        check_resampling(self.jump, self.resamples)
        rules.path("source.mask", self.mask)
        rules.whole("source.padding", self.padding, 0, LONGEST_MARGIN, unit=" pixels")
        rules.number("source.blur", self.blur, 0.0, WIDEST_BLUR)
