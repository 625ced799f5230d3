"""Picture files read, whatever is wrong with them: every layer that takes a picture by its path reads it here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps

from huggingvis.core.errors import FileProblem, no_file
from huggingvis.core.files import explain
from huggingvis.core.media import Picture

_T = TypeVar("_T")
_READ_AS = ("PNG", "JPEG", "WEBP")


def open_picture(path: Path | str) -> Picture:
    """The pixels of a picture file, turned upright, whether it says how it was made or not.

    Raises `FileProblem` when it is missing, no picture, or damaged.
    """
    return read(Path(path), lambda image: Picture.from_pil(ImageOps.exif_transpose(image)))


def on_canvas(path: Path | str, width: int, height: int, channels: int = 3) -> np.ndarray:
    """A picture file resized to a canvas, float32 [C, H, W] in [-1, 1], grey or RGB. Raises as `open_picture`."""
    told = open_picture(path).to_pil().convert("RGB" if channels == 3 else "L")
    if told.size != (width, height):
        told = told.resize((width, height), Image.Resampling.LANCZOS)
    return Picture.from_pil(told).to_signal()


def read(path: Path, take: Callable[[Image.Image], _T]) -> _T:
    """What `take` makes of the opened picture. Raises `FileProblem` as `open_picture`."""
    try:
        with Image.open(path, formats=_READ_AS) as image:
            image.load()
            return take(image)
    except FileNotFoundError as error:
        raise no_file(path) from error
    except (IsADirectoryError, PermissionError) as error:
        raise explain(error, path, "read") from error
    except Image.UnidentifiedImageError as error:
        raise FileProblem(f"{path} is not a PNG, JPEG or WebP picture. Give a picture file.") from error
    except Image.DecompressionBombError as error:
        raise FileProblem(f"{path} has too many pixels, refused as a decompression bomb ({error}).") from error
    except Exception as error:  # decoders of damaged files raise errors of every kind
        raise FileProblem(f"{path} is damaged or incomplete ({error}). Use an intact copy.") from error
