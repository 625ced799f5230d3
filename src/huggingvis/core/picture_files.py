"""Picture files read, whatever is wrong with them: every layer that takes a picture by its path reads it here."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import ExifTags, Image, ImageOps

from huggingvis.core.errors import FileProblem, no_file
from huggingvis.core.files import check_readable, explain
from huggingvis.core.media import Picture

_T = TypeVar("_T")
_READ_AS = ("PNG", "JPEG", "WEBP", "GIF")
_ON_ITS_SIDE = (5, 6, 7, 8)  # of EXIF's orientations


def open_picture(path: Path | str) -> Picture:
    """The pixels of a picture file, turned upright, whether it says how it was made or not.

    Of sixteen bits a grey the upper eight are kept, of a moving picture its first frame.
    Raises `FileProblem` when it is missing, no picture, or damaged.
    """
    return read(Path(path), lambda image: Picture.from_pil(_eight_bits(ImageOps.exif_transpose(image))))


def over_white(path: Path | str, channels: int = 3) -> Image.Image:
    """A picture file as it looks on paper: grey or RGB, white where it is transparent. Raises as `open_picture`."""
    image = open_picture(path).to_pil()
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB" if channels == 3 else "L")


@dataclass(frozen=True)
class Looks:
    """What a picture file is: its frames, (width, height) turned upright, and whether one sees through some of it."""

    frames: int
    size: tuple[int, int]
    transparent: bool


def looks_of(path: Path | str) -> Looks:
    """What a picture file is, from what stands before its pixels; these are read where some may be transparent.

    Raises as `open_picture`, where it reads.
    """
    return read(Path(path), _looks, pixels=False)


def _looks(image: Image.Image) -> Looks:
    frames, size = int(getattr(image, "n_frames", 1)), image.size
    # PNG's own getexif decodes all pixels first, in case some EXIF comes after them
    if Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1) in _ON_ITS_SIDE:
        size = size[::-1]
    through = image.has_transparency_data and bool((np.asarray(image.convert("RGBA"))[:, :, 3] < 255).any())
    return Looks(frames, size, through)


def read(path: Path, take: Callable[[Image.Image], _T], *, pixels: bool = True) -> _T:
    """What `take` makes of the opened picture, whose `pixels` are read before. Raises `FileProblem` as
    `open_picture`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large; too large is an error
            with Image.open(check_readable(path), formats=_READ_AS) as image:
                if pixels:
                    image.load()
                return take(image)
    except FileProblem:
        raise
    except FileNotFoundError as error:
        raise no_file(path) from error
    except (IsADirectoryError, PermissionError) as error:
        raise explain(error, path, "read") from error
    except Image.UnidentifiedImageError as error:
        raise FileProblem(f"{path} is not a PNG, JPEG or WebP picture, nor a GIF. Give a picture file.") from error
    except Image.DecompressionBombError as error:
        raise FileProblem(
            f"{path} has too many pixels, refused as a decompression bomb ({error}). Make it smaller elsewhere."
        ) from error
    except Exception as error:  # decoders of damaged files raise errors of every kind
        raise FileProblem(f"{path} is damaged or incomplete ({error}). Use an intact copy.") from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """An image with sixteen bits a grey as one with eight; any other as it is."""
    if not image.mode.startswith("I"):
        return image
    greys = np.asarray(image, dtype=np.int64).clip(0, 65535)  # [H, W]
    return Image.fromarray((greys >> 8).astype(np.uint8))
