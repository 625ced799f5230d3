"""A grey picture to be given colours: the numbers of `edits.colourise`. Book: chapter 6, "Colourising"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from huggingvis.core import rules
from huggingvis.core.request_sources.kind import SourceKind, check_resampling
from huggingvis.core.resizing import Resize


@dataclass(frozen=True)
class Colourise(SourceKind):
    """A picture whose grey stays and whose colours are made anew. Of a coloured one the mean of its channels is it."""

    flag: ClassVar[str | None] = "--image stays in its grey, the mean of red, green and blue, and gets new colours"

    strength = 1.0  # colours are made from noise: there is nothing to noise in part

    path: str  #: the picture's file
    jump: int = 10  #: steps that a jump goes back towards noise
    resamples: int = 1  #: how often each part of the way is walked; 1 is without jumps
    resize: Resize = "stretch"  #: how the picture comes to the canvas's size: stretch, crop or fill

    @property
    def stretched(self) -> bool:
        return self.resize == "stretch"

    def check(self) -> None:
        rules.path("source.path", self.path)
        check_resampling(self.jump, self.resamples)
