"""One image file -> uint8 [size, size, C], whatever the file holds.

Turned upright by its EXIF orientation, transparency laid on a background colour, first frame of an animation,
16-bit grey scaled to 8, palette and CMYK to RGB; then the largest centred square, resized with antialiasing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from huggingvis.core.errors import UsageError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MAX_PIXELS = 89_478_485
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")


class Unreadable(Exception):
    """A file that cannot become a picture; the message is the reason, without the file's name."""


@contextmanager
def opened(path: Path, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """The image in a file, not decoded yet. Raises `Unreadable` for whatever is wrong with it, inside the block too."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise Unreadable(
                    f"{width} x {height} pixels, more than the {max_pixels:,} allowed (refused as a possible "
                    "decompression bomb)"
                )
            yield image
    except Unreadable:
        raise
    except Image.DecompressionBombError as error:
        raise Unreadable(f"too many pixels, refused as a decompression bomb ({error})") from error
    except Image.UnidentifiedImageError as error:
        raise Unreadable("not an image in a format that is accepted") from error
    except Exception as error:  # decoders of damaged files raise errors of every kind
        raise Unreadable(f"damaged or incomplete ({error or type(error).__name__})") from error


def as_stored(path: Path) -> np.ndarray:
    """uint8 [H, W, 3]: the pixels of a file as it holds them, neither cropped nor turned upright, without transparency.

    Raises `Unreadable`, for values of more than 8 bits too.
    """
    with opened(path) as image:
        if image.mode[0] in "IF":
            raise Unreadable(f"values of more than 8 bits (mode {image.mode}); save it with 8")
        return np.asarray(image.convert("RGB"))


@dataclass(frozen=True)
class Decoder:
    """How pictures are made alike.

    `size`: side of the square in pixels. `channels`: 3 (RGB) or 1 (grey). `background`: RGB under transparency.
    `max_pixels`: larger files are refused unread, since a few kilobytes can unpack into gigabytes.
    """

    size: int
    channels: int = 3
    background: tuple[int, int, int] = (255, 255, 255)
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 8192:
            raise UsageError(f"The side of the pictures must lie between 1 and 8192 pixels; found {self.size}.")
        if self.channels not in (1, 3):
            raise UsageError(f"Pictures have 1 (grey) or 3 (RGB) channels; found {self.channels}.")

    def __call__(self, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
        """uint8 [size, size, channels], and what is worth saying about the file. Raises `Unreadable`."""
        with opened(path, self.max_pixels) as image:
            return self._decode(image)

    def _decode(self, image: Image.Image) -> tuple[np.ndarray, tuple[str, ...]]:
        width, height = image.size
        notes = []
        frames = getattr(image, "n_frames", 1)  # only formats with frames have the attribute
        if frames > 1:
            notes.append(f"first of {frames} frames used")
            image.seek(0)
        if min(width, height) < self.size:
            notes.append(f"enlarged from {width} x {height}")
        image = self._flatten(ImageOps.exif_transpose(image), image.format == "PNG")
        width, height = image.size
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        square = image.resize(
            (self.size, self.size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)
        )
        return np.asarray(square).reshape(self.size, self.size, self.channels), tuple(notes)  # [S, S, C]

    def _flatten(self, image: Image.Image, png: bool) -> Image.Image:
        """8-bit RGB or grey, without transparency. Mode I of a PNG means 16 bits; elsewhere its range is unknown."""
        mode = "L" if self.channels == 1 else "RGB"
        if image.mode.startswith("I;16") or (image.mode == "I" and png):
            values = np.asarray(image).astype(np.uint32)  # [H, W]
            image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
        elif image.mode in ("I", "F"):
            raise Unreadable(f"32-bit values (mode {image.mode}), whose range is not known; save it with 8 or 16 bits")
        elif image.has_transparency_data:
            rgba = image.convert("RGBA")
            under = Image.new("RGBA", rgba.size, (*self.background, 255))
            image = Image.alpha_composite(under, rgba)
        return image.convert(mode)


def quiet_decoding() -> warnings.catch_warnings:
    """A context in which the decoder's library keeps its warnings to itself: what matters is in our own report."""
    return warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning)
