"""Where pixels of sprites come from: emoji glyphs, drawn shapes, picture files; and how they are scaled.

A colour-emoji font draws each glyph once at its own size, cropped to what is not transparent. Scaling works on
premultiplied colour (Porter and Duff 1984, "Compositing digital images"), so no fringe of the transparent
pixels' colour shows. Shapes are drawn at eight times their size and averaged.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from huggingvis.core.errors import FileProblem, MissingExtra, unknown

RGB = tuple[int, int, int]
GLYPH_SIZES = (109, 160, 137, 136, 128, 96, 64)  # bitmap fonts exist at one size only: Noto 109, Apple 160 …
FONT_FILES = (
    "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",
    "/usr/share/fonts/noto/NotoColorEmoji.ttf",
    "/usr/share/fonts/google-noto-emoji/NotoColorEmoji.ttf",
    "/usr/share/fonts/noto-emoji/NotoColorEmoji.ttf",
    "/System/Library/Fonts/Apple Color Emoji.ttc",
    "C:/Windows/Fonts/seguiemj.ttf",
)


class Art(Protocol):
    """Something that can be drawn. `tinted` art has no colour of its own."""

    @property
    def tinted(self) -> bool: ...

    def alpha_or_rgba(self, width: int, height: int) -> np.ndarray: ...


@lru_cache(maxsize=1)
def emoji_font_path() -> Path | None:
    """The file of an installed colour-emoji font, or None."""
    for name in FONT_FILES:
        if os.path.exists(name):
            return Path(name)
    if shutil.which("fc-match"):
        command = ["fc-match", "-f", "%{file}|%{color}", ":color=true:lang=und-zsye"]
        found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split("|")
        if len(found) == 2 and found[1] == "True" and os.path.exists(found[0]):
            return Path(found[0])
    return None


@lru_cache(maxsize=1)
def emoji_font() -> ImageFont.FreeTypeFont:
    """The installed colour-emoji font. Raises `MissingExtra` that says what to install when there is none."""
    path = emoji_font_path()
    for size in GLYPH_SIZES if path else ():
        try:
            return ImageFont.truetype(str(path), size)
        except OSError:
            continue
    raise MissingExtra(
        "Drawing emoji sprites needs a colour-emoji font; none was found. Debian or Ubuntu: apt install "
        "fonts-noto-color-emoji; Fedora: dnf install google-noto-color-emoji-fonts; macOS and Windows bring one. "
        "Names, layouts and captions, the geometric shapes and folders of pictures work without it."
    )


def is_one_cell(emoji: str) -> bool:
    """Whether the font draws `emoji` as a single glyph (not as several side by side, nor as an empty box)."""
    font = emoji_font()
    one = font.getlength("\U0001f98a")
    return 0 < font.getlength(emoji) <= 1.05 * one and _glyph(emoji) is not None


@lru_cache(maxsize=1024)
def _glyph(emoji: str) -> Image.Image | None:
    font = emoji_font()
    side = int(2.2 * font.size)
    image = Image.new("RGBA", (side, side))
    ImageDraw.Draw(image).text((side // 6, side // 6), emoji, font=font, embedded_color=True)
    box = image.getchannel("A").getbbox()
    return image.crop(box) if box else None


def scaled(image: Image.Image, width: int, height: int) -> np.ndarray:
    """Premultiplied uint8 RGBA of `image` at a new size."""
    small = image.convert("RGBa").resize((width, height), Image.Resampling.HAMMING)
    return np.array(small, dtype=np.uint8)  # [H, W, 4]


@dataclass(frozen=True)
class Glyph:
    """One colour emoji."""

    emoji: str
    tinted = False

    def master(self) -> Image.Image:
        """The glyph as the font holds it, cropped to its outline (RGBA)."""
        image = _glyph(self.emoji)
        if image is None:
            raise FileProblem(
                f"The font {emoji_font_path()} has no picture for {self.emoji!r}. "
                "Install a newer colour-emoji font, or leave this sprite out."
            )
        return image

    def alpha_or_rgba(self, width: int, height: int) -> np.ndarray:
        return scaled(self.master(), width, height)


@dataclass(frozen=True)
class Picture:
    """A picture file; without transparency its whole rectangle is the sprite."""

    path: str
    tinted = False

    def master(self) -> Image.Image:
        """The picture cropped to its outline (RGBA). Raises `FileProblem` when it cannot be read or is empty."""
        return _picture(self.path)

    def alpha_or_rgba(self, width: int, height: int) -> np.ndarray:
        return scaled(self.master(), width, height)


@lru_cache(maxsize=256)
def _picture(path: str) -> Image.Image:
    try:
        with Image.open(path) as file:
            image = file.convert("RGBA")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise FileProblem(
            f"Expected a picture in {path}; it could not be read ({error}). Replace it or take it out of the folder."
        ) from error
    box = image.getchannel("A").getbbox()
    if box is None:
        raise FileProblem(f"The picture {path} is transparent everywhere. Replace it or take it out of the folder.")
    image = image.crop(box)
    image.thumbnail((256, 256), Image.Resampling.HAMMING)
    return image


def _ring_of_points(n: int, radius: float, inner: float | None = None) -> list[tuple[float, float]]:
    points = []
    for k in range(n if inner is None else 2 * n):
        r = radius if inner is None or k % 2 == 0 else inner
        angle = -math.pi / 2 + 2 * math.pi * k / (n if inner is None else 2 * n)
        points.append((r * math.cos(angle), r * math.sin(angle)))
    return points


def _heart() -> list[tuple[float, float]]:
    ts = [2 * math.pi * k / 120 for k in range(120)]
    return [
        (16 * math.sin(t) ** 3, -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)))
        for t in ts
    ]


def _outline(shape: str) -> list[tuple[float, float]]:
    if shape in ("circle", "ring"):
        return _ring_of_points(120, 1.0)
    table: dict[str, list[tuple[float, float]]] = {
        "square": [(0, 0), (1, 0), (1, 1), (0, 1)],
        "triangle": [(0.5, 0), (1, math.sqrt(3) / 2), (0, math.sqrt(3) / 2)],
        "star": _ring_of_points(5, 1.0, 0.42),
        "heart": _heart(),
        "diamond": [(0.4, 0), (0.8, 0.5), (0.4, 1), (0, 0.5)],
        "cross": [(1, 0), (2, 0), (2, 1), (3, 1), (3, 2), (2, 2), (2, 3), (1, 3), (1, 2), (0, 2), (0, 1), (1, 1)],
    }
    if shape not in table:
        raise unknown("shape", shape, (*table, "circle", "ring"))
    return table[shape]


RING_HOLE = 0.68  # inner over outer diameter


@dataclass(frozen=True)
class Drawing:
    """A geometric shape; only its coverage is drawn, the colour is the thing's."""

    shape: str
    tinted = True

    @property
    def aspect(self) -> float:
        xs, ys = zip(*_outline(self.shape), strict=True)
        return (max(xs) - min(xs)) / (max(ys) - min(ys))

    def alpha_or_rgba(self, width: int, height: int, supersample: int = 8) -> np.ndarray:
        """Coverage [H, W] as uint8: the share of each pixel that the shape covers."""
        points = _outline(self.shape)
        xs, ys = zip(*points, strict=True)
        w, h = width * supersample, height * supersample
        sx, sy = (w - 1) / (max(xs) - min(xs)), (h - 1) / (max(ys) - min(ys))
        canvas = Image.new("L", (w, h))
        draw = ImageDraw.Draw(canvas)
        draw.polygon([((x - min(xs)) * sx, (y - min(ys)) * sy) for x, y in points], fill=255)
        if self.shape == "ring":
            mx, my = w * (1 - RING_HOLE) / 2, h * (1 - RING_HOLE) / 2
            draw.ellipse((mx, my, w - 1 - mx, h - 1 - my), fill=0)
        return np.array(canvas.reduce(supersample), dtype=np.uint8)  # [H, W]


def premultiplied(art: Art, width: int, height: int, colour: RGB | None) -> np.ndarray:
    """Premultiplied uint8 RGBA [height, width, 4] of `art`, tinted with `colour` if it has none of its own."""
    drawn = art.alpha_or_rgba(width, height)
    if not art.tinted:
        return drawn
    alpha = drawn.astype(np.float32)[..., None]  # [H, W, 1]
    tint = np.asarray(colour, np.float32) / 255
    return np.concatenate([np.rint(alpha * tint), alpha], -1).astype(np.uint8)  # [H, W, 4]


@lru_cache(maxsize=4096)
def lab(colour: RGB) -> tuple[float, float, float]:
    """CIE L*a*b* (1976) of an sRGB colour under D65; a distance of 2.3 is just noticeable."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)]
    r, g, b = linear
    xyz = (
        (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505,
        0.2126 * r + 0.7152 * g + 0.0722 * b,
        (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089,
    )
    x, y, z = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def colour_distance(a: RGB, b: RGB) -> float:
    """Euclidean distance in CIE Lab."""
    return math.dist(lab(a), lab(b))


@dataclass(frozen=True)
class Look:
    """What a layout must know of a sprite without drawing it.

    aspect: width / height of the outline; tones: up to four main colours with their share of the area;
    cells: an 8x8 bit map of where the sprite covers its box, most significant bit first, row by row.
    """

    aspect: float
    tones: tuple[tuple[RGB, float], ...]
    cells: int

    def covers(self, u: float, v: float) -> bool:
        """Whether the sprite covers the point (u, v) in [0, 1) of its own box."""
        if not (0 <= u < 1 and 0 <= v < 1):
            return False
        return bool(self.cells >> (63 - (int(v * 8) * 8 + int(u * 8))) & 1)


def measure(art: Art, aspect: float, side: int = 48) -> Look:
    """The look of `art`: four tones by k-means in RGB from fixed starts, and its coverage cells."""
    w, h = max(8, round(side * min(1, aspect))), max(8, round(side * min(1, 1 / aspect)))
    pixels = premultiplied(art, w, h, (128, 128, 128))
    alpha = np.array(Image.fromarray(pixels[..., 3]).resize((8, 8), Image.Resampling.BOX))
    cells = int("".join("1" if a > 110 else "0" for a in alpha.ravel()), 2)
    if art.tinted:
        return Look(aspect, (), cells)
    solid = pixels[pixels[..., 3] > 200][:, :3].astype(np.float64)  # [n, 3]
    return Look(aspect, _tones(solid if len(solid) else np.full((1, 3), 128.0)), cells)


def _tones(colours: np.ndarray, k: int = 4) -> tuple[tuple[RGB, float], ...]:
    order = np.argsort(colours @ np.array([0.299, 0.587, 0.114]), kind="stable")
    centres = colours[order[((np.arange(k) + 0.5) / k * len(order)).astype(int)]]  # [k, 3]
    for _ in range(12):
        nearest = ((colours[:, None] - centres[None]) ** 2).sum(-1).argmin(1)  # [n]
        centres = np.stack([colours[nearest == j].mean(0) if (nearest == j).any() else centres[j] for j in range(k)])
    share = np.bincount(nearest, minlength=k) / len(colours)
    rows = [((int(c[0]), int(c[1]), int(c[2])), round(float(s), 2)) for c, s in zip(centres, share, strict=True)]
    return tuple(sorted((row for row in rows if row[1] >= 0.05), key=lambda row: -row[1]))
