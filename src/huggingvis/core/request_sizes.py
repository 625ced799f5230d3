"""What a request says of canvases larger than a model knows: a second pass, a second model, overlapping windows.

Book: chapter 6, "Large pictures".
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Refine:
    """A second pass at a larger size ("hires fix"): enlarged, noised part of the way and undone again."""

    scale: float = 2.0  #: enlargement before the second pass
    steps: int = 20  #: calls of the sampler in the second pass
    strength: float = 0.4  #: 0 to 1: share of the noising in the second pass; 0 only enlarges
    width: int | None = None  #: pixels, in the place of scale; alone it keeps the shape
    height: int | None = None  #: pixels, in the place of scale; alone it keeps the shape
    upscaler: str = "lanczos"  #: how it is enlarged: lanczos, nearest, latent, latent-bicubic, ...
    sampler: str | None = None  #: of the second pass; none: that of the first
    schedule: str | None = None  #: of the second pass; none: that of the first
    guidance_scale: float | None = None  #: of the second pass; none: that of the first
    prompt: str | None = None  #: of the second pass; none: that of the first
    negative: str | None = None  #: what the second pass should not show; none: as the first


@dataclass(frozen=True)
class Refiner:
    """A second model that takes over for the last steps, in the same latents: that of Stable Diffusion XL."""

    model: str  #: its folder or file
    at: float = 0.8  #: 0 to 1: the share of the noise that the first model takes away


@dataclass(frozen=True)
class Tiles:
    """A canvas larger than what the model knows: overlapping windows, whose beliefs are averaged at each step."""

    width: int | None = None  #: pixels of a window; none: the model's own
    height: int | None = None  #: pixels of a window; none: the model's own
    overlap: float = 0.5  #: 0 to 0.95: share of a window that the next one covers too, at least
    wrap_x: bool = False  #: the left and the right edge meet
    wrap_y: bool = False  #: the upper and the lower edge meet
