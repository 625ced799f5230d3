"""What a picture may start from instead of noise; parts of the `Request`, each with a file of its name in edits/.

Numbers that are lengths count pixels of the picture's file, unless they say otherwise. Book: chapter 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from huggingvis.core import rules
from huggingvis.core.errors import UsageError

Resize = Literal["stretch", "crop", "fill"]
"""How a picture comes to the canvas's size: pulled to it, cut to its shape, or laid in with its edges drawn out."""
Method = Literal["auto", "blend", "repaint"]
"""How a net learns of what is known: auto (told, if it can be told, else blend), blend, or repaint (resampling)."""
Fill = Literal["original", "fill", "noise", "nothing"]
"""What lies under a mask before the noise: what was there, blurred surroundings, latent noise, zero latents."""
Ground = Literal["edge", "blur", "noise"]
"""What lies on new canvas before the noise: the picture's edge drawn out, blurred surroundings, latent noise."""

LONGEST_MARGIN = 8192
WIDEST_BLUR = 1024.0
MOST_RESAMPLES = 1000


@dataclass(frozen=True)
class FromPicture:
    """A picture to start from instead of noise: image-to-image."""

    path: str  #: the picture's file
    strength: float = 0.6  #: 0 to 1: share of the noising that is done and undone; 0 gives the picture back
    resize: Resize = "stretch"  #: how the picture comes to the canvas's size: stretch, crop or fill


@dataclass(frozen=True)
class Inpaint:
    """A picture of which one part is made anew. Outside the mask it stays as it is, to the bit."""

    path: str  #: the picture's file
    mask: str  #: a picture of the same shape, white where the other is made anew
    strength: float = 1.0  #: 0 to 1: share of the noising that is done and undone there
    method: Method = "auto"  #: auto (what the model can), blend or repaint
    region: Literal["whole", "masked"] = "whole"  #: what the model works on: the whole picture, or the mask's part
    padding: int = 32  #: pixels around the mask that belong to the region `masked`
    soft: bool = False  #: grey values of the mask mix old and new; else half grey and more is new, the rest old
    blur: float = 0.0  #: pixels over which old and new are faded into each other along the mask's edge
    fill: Fill = "original"  #: what lies under the mask before the noise: original, fill, noise or nothing
    invert: bool = False  #: black is made anew instead of white
    paste: bool = True  #: the picture's own pixels are put back outside the mask; else all are as the model decodes
    jump: int = 10  #: repaint: steps that a jump goes back towards noise
    resamples: int = 10  #: repaint: how often each part of the way is walked; 1 is without jumps
    resize: Resize = "stretch"  #: how picture and mask come to the canvas's size: stretch, crop or fill


@dataclass(frozen=True)
class Outpaint:
    """A picture that grows: new canvas around it is made up, the picture itself stays as it is, to the bit."""

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


def check_source(source: FromPicture | Inpaint | Outpaint) -> None:
    """Raises `UsageError` for values of a source that cannot be, by their names in the request."""
    rules.path("source.path", source.path)
    rules.number("source.strength", source.strength, 0.0, 1.0)
    if isinstance(source, FromPicture):
        return
    rules.whole("source.jump", source.jump, 1, 10_000, unit=" steps")
    rules.whole("source.resamples", source.resamples, 1, MOST_RESAMPLES)
    if isinstance(source, Inpaint):
        rules.path("source.mask", source.mask)
        rules.whole("source.padding", source.padding, 0, LONGEST_MARGIN, unit=" pixels")
        rules.number("source.blur", source.blur, 0.0, WIDEST_BLUR)
        return
    rules.share("source.strength", source.strength)
    for side in ("left", "right", "top", "bottom"):
        rules.whole(f"source.{side}", getattr(source, side), 0, LONGEST_MARGIN, unit=" pixels")
    rules.whole("source.seam", source.seam, 0, LONGEST_MARGIN, unit=" pixels")
    if not (source.left or source.right or source.top or source.bottom):
        raise UsageError(
            "The picture is to grow by no pixel at any side. Say where there is to be new canvas, as in left=32, or "
            "leave the source out."
        )
