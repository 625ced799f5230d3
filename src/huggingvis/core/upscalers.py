"""The ways to enlarge a picture before its second pass, by our names and by those of AUTOMATIC1111's web UI.

Latents are interpolated as they are; pixels are decoded, resized and encoded again. Book: chapter 6, "A second pass".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from huggingvis.core.errors import unknown


@dataclass(frozen=True)
class Upscaler:
    """`name` is ours, `label` theirs. `latent`: latents are enlarged, else pixels. `mode`, `smooth`: how."""

    name: str
    label: str
    latent: bool
    mode: str
    smooth: bool = False


UPSCALERS = (
    Upscaler("latent", "Latent", True, "bilinear"),
    Upscaler("latent-antialiased", "Latent (antialiased)", True, "bilinear", smooth=True),
    Upscaler("latent-bicubic", "Latent (bicubic)", True, "bicubic"),
    Upscaler("latent-bicubic-antialiased", "Latent (bicubic antialiased)", True, "bicubic", smooth=True),
    Upscaler("latent-nearest", "Latent (nearest)", True, "nearest"),
    Upscaler("latent-nearest-exact", "Latent (nearest-exact)", True, "nearest-exact"),
    Upscaler("lanczos", "Lanczos", False, "lanczos"),
    Upscaler("nearest", "Nearest", False, "nearest"),
)


def upscaler_of(name: str) -> Upscaler:
    """The row of a name, ours or theirs, however it is spelt. Raises `UsageError` with the nearest."""
    plain = _plain(name)
    for row in UPSCALERS:
        if plain == row.name or plain == _plain(row.label):
            return row
    raise unknown("upscaler", name, [row.name for row in UPSCALERS])


def _plain(name: str) -> str:
    """Small letters, words joined by hyphens: "Latent (nearest-exact)" is latent-nearest-exact."""
    return "-".join(re.findall(r"[a-z0-9]+", name.lower()))
