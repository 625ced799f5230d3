"""Pictures for ControlNets, T2I-Adapters and IP-Adapters: fitted to the canvas, and turned into what the net reads.

    prepared("photo.png", "canny,low=50", (512, 512), "crop")     # uint8 [512, 512, 3], white edges on black

Each kind of control picture that can be computed without a net of its own is a file of data/control_inputs/, called
after it, with one dataclass of its numbers. A picture is fitted first, so that lines are one pixel wide on the canvas.
Book: chapter 6, "A second picture".
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from abc import ABC, abstractmethod
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image, ImageOps

from huggingvis.core.errors import UsageError, unknown
from huggingvis.core.flags import parse
from huggingvis.core.media import Picture
from huggingvis.core.picture_files import open_picture, read
from huggingvis.core.request import FITS, AdapterUse
from huggingvis.core.resizing import Box, place_on
from huggingvis.data import control_inputs


class Preparation(ABC):
    """From a picture to what a control net reads of it; a frozen dataclass of numbers.

    Attributes:
        also: what other programs call it.
        nets: words in the names of files that read such pictures, the best first.
        raw: it takes greys of mode F as the file has them, 16 bits too, and not RGB.
    """

    also: ClassVar[tuple[str, ...]] = ()
    nets: ClassVar[tuple[str, ...]] = ()
    raw: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, image: Image.Image) -> np.ndarray:
        """uint8 [H, W, 3], of the picture's size."""


@cache
def preparations() -> dict[str, type[Preparation]]:
    """All kinds by name."""
    found = {}
    for module in pkgutil.iter_modules(control_inputs.__path__):
        members = vars(importlib.import_module(f"{control_inputs.__name__}.{module.name}")).values()
        (found[module.name],) = (
            one for one in members
            if inspect.isclass(one) and issubclass(one, Preparation) and one is not Preparation
        )  # fmt: skip
    return found


def name_of(word: str) -> str | None:
    """The name of the kind that somebody calls `word`, `soft_edges` for `SoftEdge`; None where there is none."""
    plain, known = word.strip().lower().replace("-", "_"), preparations()
    return plain if plain in known else next((name for name, kind in known.items() if plain in kind.also), None)


def kind_named(word: str) -> type[Preparation]:
    """The kind called `word`. Raises `UsageError` with the nearest."""
    name = name_of(word)
    if name is None:
        raise unknown("way to prepare a control picture", word, [*preparations(), "none"])
    return preparations()[name]


def preparation(words: str) -> Preparation | None:
    """From `canny` or `canny,low=50,high=150`; nothing, or `none`, is None: the picture is taken as it is.

    Raises `UsageError` for an unknown name or number (with the nearest), and for a value of the wrong type.
    """
    name, *numbers = re.split(r",(?=[^,=]+=)", words)  # a value may be a list itself
    if name.strip().lower() in ("", "none"):
        if numbers:
            raise UsageError(f"A picture that is taken as it is has no numbers, but {words!r} was found.")
        return None
    return parse(kind_named(name), [f"--{number.strip()}" for number in numbers])


def prepared(path: Path | str, words: str, size: tuple[int, int] | None, fit: str = FITS[0]) -> np.ndarray:
    """What a net sees of a picture file: uint8 [H, W, 3]; `size` (width, height) of the canvas, None for its own.

    `words` as in `preparation`; `fit`: stretch, crop (what sticks out is cut off) or fill (what is missing gets the
    colour of the rim). Raises `FileProblem` where the file is no picture, `UsageError` as `preparation` and
    where it is no map of depth that should be.
    """
    return prepared_by(path, preparation(words), size, fit)


def prepared_by(
    path: Path | str, how: Preparation | None, size: tuple[int, int] | None = None, fit: str = FITS[0]
) -> np.ndarray:
    """As `prepared`, by a preparation with its numbers."""
    raw = how is not None and how.raw
    image = _greys(path) if raw else open_picture(path).to_pil().convert("RGB")
    if size is None:
        return _pixels(image, how)
    if fit not in FITS:
        raise unknown("way to fit a control picture", fit, FITS)
    if fit == "crop":
        image = image.crop(place_on(image.size, size, "fill"))  # the largest part of the canvas's shape
    at = place_on(size, image.size, "fill" if fit == "fill" else "stretch")
    if image.size != at.size:
        image = image.resize(at.size, Image.Resampling.LANCZOS)
    return _filled(_pixels(image, how), at, size)


def for_use(use: AdapterUse, size: tuple[int, int]) -> np.ndarray:
    """What an adapter of a request sees, float32 [3, H, W] in [-1, 1]. Raises as `prepared`."""
    return Picture(prepared(use.image, use.prepare, size, use.fit)).to_signal()


def _pixels(image: Image.Image, how: Preparation | None) -> np.ndarray:
    return np.asarray(image) if how is None else how(image)


def _greys(path: Path | str) -> Image.Image:
    """A picture as greys of mode F, upright, of sixteen bits or floats as they are."""

    def take(image: Image.Image) -> tuple[Image.Image, bool]:
        upright = ImageOps.exif_transpose(image)
        deep = upright.mode.startswith(("I", "F"))
        greys = np.asarray(upright if deep else upright.convert("L"), dtype=np.float32)
        return Image.fromarray(greys), not deep and _coloured(upright)

    greys, coloured = read(Path(path), take)
    if coloured:
        raise UsageError(
            f"{path} is in colours, but a map of depth has one grey for each distance. None is guessed from a "
            "photograph here: give a map that a camera, a renderer or another program made."
        )
    return greys


def _coloured(image: Image.Image) -> bool:
    """Whether a twentieth of a picture is more than a tint away from grey."""
    rgb = np.asarray(image.convert("RGB")).astype(int)
    return float((np.ptp(rgb, axis=2) > 24).mean()) > 0.05


def _filled(pixels: np.ndarray, at: Box, size: tuple[int, int]) -> np.ndarray:
    """`at` its place of a canvas whose rest has the median colour of the rim."""
    if at.size == size:
        return pixels
    rim = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])  # [N, 3]
    whole = np.empty((size[1], size[0], 3), np.uint8)
    whole[:] = np.median(rim, axis=0).astype(np.uint8)
    whole[at.top : at.bottom, at.left : at.right] = pixels
    return whole
