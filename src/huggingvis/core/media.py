"""Media values: pixels that remember the request they were made from.

A `Picture` is what leaves the library (files, HTTP replies, contact sheets) and what enters it from files. Inside,
images are tensors `[B, C, H, W]` in [-1, 1]; here they are `uint8 [H, W, C]` in [0, 255], and no torch is needed.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from huggingvis.core.errors import NumericalTrouble, UsageError

if TYPE_CHECKING:
    from PIL import Image

    from huggingvis.core.request import Request

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture and where it comes from.

    `pixels`: uint8 [H, W, C], C = 1 (grey), 3 (RGB) or 4 (RGBA, straight alpha); kept as a read-only view.
    `request`: what was asked for, or None for a picture that was not generated.
    `made`: how it was made, in JSON values: `batch_index`, `seed`, `backend`, `model`, `model_hash`, `version`, ...
    Raises `UsageError` for another shape or dtype.
    """

    pixels: np.ndarray
    request: Request | None = None
    made: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        pixels = np.asarray(self.pixels)
        if pixels.ndim == 2:
            pixels = pixels[:, :, None]  # [H, W, 1]
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in _MODES or 0 in pixels.shape:
            raise UsageError(
                f"A picture is uint8 [H, W, C] with C = 1, 3 or 4 and at least one pixel; found {pixels.dtype} "
                f"{list(pixels.shape)}. Use Picture.from_signal for float values in [-1, 1]."
            )
        view = pixels.view()
        view.flags.writeable = False
        object.__setattr__(self, "pixels", view)
        object.__setattr__(self, "made", MappingProxyType(dict(self.made)))

    def __repr__(self) -> str:
        """Its size, sentence and seed: the pixels are for eyes."""
        said = f" of {self.request.prompt.text!r}" if self.request and self.request.prompt.text else ""
        seed = f", seed {self.made['seed']}" if "seed" in self.made else ""
        return f"<Picture {self.size[0]}x{self.size[1]}{said}{seed}>"

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        buffer = io.BytesIO()
        self.to_pil().save(buffer, format="PNG")
        return buffer.getvalue()

    def bare(self) -> Picture:
        """The pixels alone, without a word of how they were made: for files that are handed to others."""
        return Picture(self.pixels)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels, in the order people say them."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @classmethod
    def from_signal(
        cls, signal: np.ndarray, request: Request | None = None, made: Mapping[str, Any] | None = None
    ) -> Picture:
        """From a model's output: float [C, H, W] in [-1, 1]; values outside are clipped, NaN is refused."""
        signal = np.asarray(signal, dtype=np.float64)
        if not np.isfinite(signal).all():
            bad = int((~np.isfinite(signal)).sum())
            raise NumericalTrouble(
                f"The picture holds {bad} values that are NaN or infinite, of {signal.size}. "
                "Try float32 in place of a lower precision; if that fails, the weights themselves are damaged."
            )
        levels = np.rint((np.clip(signal, -1.0, 1.0) + 1.0) * 127.5).astype(np.uint8)
        return cls(np.moveaxis(levels, 0, -1), request, made or {})  # [H, W, C]

    def to_signal(self) -> np.ndarray:
        """float32 [C, H, W] in [-1, 1]; `from_signal` of it gives the same pixels back."""
        return np.moveaxis(self.pixels.astype(np.float32) / 127.5 - 1.0, -1, 0)

    @classmethod
    def from_pil(cls, image: Image.Image) -> Picture:
        """From an 8-bit grey, RGB or RGBA image; any other mode becomes RGB, or RGBA where it has transparency."""
        if image.mode not in _MODES.values():
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        return cls(np.array(image))

    def to_pil(self) -> Image.Image:
        """A PIL image of mode L, RGB or RGBA."""
        from PIL import Image

        channels = self.pixels.shape[2]
        return Image.fromarray(np.ascontiguousarray(self.pixels[:, :, 0] if channels == 1 else self.pixels))
