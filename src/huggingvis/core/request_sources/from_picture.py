"""A picture to start from: the numbers of `edits.from_picture`. Book: chapter 6, "From a picture"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from huggingvis.core.request_sources.kind import SourceKind, check_started
from huggingvis.core.resizing import Resize


@dataclass(frozen=True)
class FromPicture(SourceKind):
    """A picture to start from instead of noise: image-to-image."""

    anew: ClassVar[bool] = True
    begins: ClassVar[tuple[str | None, str] | None] = (None, "path")

    path: str  #: the picture's file
    strength: float = 0.6  #: 0 to 1: share of the noising that is done and undone; 0 gives the picture back
    resize: Resize = "stretch"  #: how the picture comes to the canvas's size: stretch, crop or fill

    @property
    def stretched(self) -> bool:
        return self.resize == "stretch"

    def check(self) -> None:
        check_started(self)
