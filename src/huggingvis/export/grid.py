"""Contact sheets: many pictures in rows and columns on one, with labels beside and captions under them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

from huggingvis.core.errors import UsageError
from huggingvis.core.media import Picture
from huggingvis.export.lettering import Lettering, Lines

_MOST_PIXELS = 1 << 28
LEAST_CELL = 128
"""Pixels of a picture on a sheet for people: smaller ones are enlarged, to be seen."""


@dataclass(frozen=True)
class Sheet:
    """How a contact sheet looks. Lengths in pixels, colours in RGB.

    `columns`: None for the number of column labels, else as square as possible. `cell`: the longest side of every
    picture, None for the largest one's own. `title`: a line above all.
    """

    columns: int | None = None
    cell: int | None = None
    row_labels: tuple[str, ...] = ()
    column_labels: tuple[str, ...] = ()
    title: str = ""
    gap: int = 8
    lettering: Lettering = field(default_factory=Lettering)
    background: tuple[int, int, int] = (255, 255, 255)
    ink: tuple[int, int, int] = (32, 32, 32)


def cell_for(side: int, least: int = LEAST_CELL) -> int:
    """The cell of pictures of that longest side: whole times as large, so that pixels stay squares of one size."""
    return side * math.ceil(least / side)


def contact_sheet(pictures: Sequence[Picture], sheet: Sheet, captions: Sequence[str] = ()) -> Picture:
    """`pictures` row by row on one RGB picture; `captions`, if any, one per picture, wrapped to the cell.

    Small pictures are enlarged in whole pixels' own colours (no blur), large ones reduced with antialiasing.
    Raises `UsageError` for no pictures, labels or captions that do not match, or cells of more than 2^28 pixels in all.
    """
    columns = _columns(len(pictures), sheet)
    rows = math.ceil(len(pictures) / columns) if columns else 0
    _check(len(pictures), rows, columns, sheet, captions)
    sizes = [_tile_size(picture, sheet) for picture in pictures]
    width, height = max(w for w, _ in sizes), max(h for _, h in sizes)
    if width * height * columns * rows > _MOST_PIXELS:
        raise UsageError(
            f"The sheet would have {columns} x {rows} cells of {width} x {height} pixels, more than {_MOST_PIXELS:,} "
            "in all. Use a smaller cell or fewer pictures."
        )
    tiles = [_tile(picture, size, sheet) for picture, size in zip(pictures, sizes, strict=True)]
    letters = sheet.lettering
    under = [letters.set(caption, width) for caption in captions]
    above = [letters.set(label, width) for label in sheet.column_labels]
    beside = [letters.set(label, max(width, 8 * letters.size)) for label in sheet.row_labels]
    left = sheet.gap + _extent([lines.width for lines in beside], sheet.gap)
    title = letters.set(sheet.title, columns * (width + sheet.gap) - sheet.gap)
    head = sheet.gap + (_extent([title.height], sheet.gap) if title.lines else 0)
    top = head + _extent([lines.height for lines in above], sheet.gap)
    text = [_extent([lines.height for lines in under[r * columns : (r + 1) * columns]], 0) for r in range(rows)]
    total = (left + columns * (width + sheet.gap), top + rows * (height + sheet.gap) + sum(text))
    canvas = Image.new("RGB", total, sheet.background)
    draw = ImageDraw.Draw(canvas)
    _write(draw, title, left, sheet.gap, sheet.ink)
    for column, lines in enumerate(above):
        _write(draw, lines, left + column * (width + sheet.gap), head, sheet.ink)
    for row in range(rows):
        y = top + row * (height + sheet.gap) + sum(text[:row])
        if beside:
            _write(draw, beside[row], sheet.gap, y, sheet.ink)
        for column, tile in enumerate(tiles[row * columns : (row + 1) * columns]):
            x = left + column * (width + sheet.gap)
            canvas.paste(tile, (x + (width - tile.width) // 2, y + (height - tile.height) // 2))
            if under:
                _write(draw, under[row * columns + column], x, y + height, sheet.ink)
    return Picture.from_pil(canvas)


def beside(pictures: Sequence[Picture]) -> Picture:
    """Pictures from left to right on white, their tops level."""
    height = max(p.size[1] for p in pictures)
    return Picture(np.concatenate([_padded(p, p.size[0], height) for p in pictures], axis=1))


def stacked(pictures: Sequence[Picture]) -> Picture:
    """Pictures from top to bottom on white, their left edges in line."""
    width = max(p.size[0] for p in pictures)
    return Picture(np.concatenate([_padded(p, width, p.size[1]) for p in pictures], axis=0))


def _padded(picture: Picture, width: int, height: int) -> np.ndarray:
    right, below = width - picture.size[0], height - picture.size[1]
    return np.pad(picture.pixels, ((0, below), (0, right), (0, 0)), constant_values=255)


def _columns(count: int, sheet: Sheet) -> int:
    if sheet.columns is not None:
        return sheet.columns
    return len(sheet.column_labels) or math.ceil(math.sqrt(count))


def _check(count: int, rows: int, columns: int, sheet: Sheet, captions: Sequence[str]) -> None:
    if count == 0 or columns < 1:
        raise UsageError(f"A contact sheet needs a picture and a column at least; found {count} and {columns}.")
    for name, labels, wanted in (
        ("row labels", sheet.row_labels, rows),
        ("column labels", sheet.column_labels, columns),
        ("captions", captions, count),
    ):
        if labels and len(labels) != wanted:
            raise UsageError(
                f"A sheet of {count} pictures in {columns} columns takes {wanted} {name}; found {len(labels)}."
            )


def _tile_size(picture: Picture, sheet: Sheet) -> tuple[int, int]:
    width, height = picture.size
    scale = 1.0 if sheet.cell is None else sheet.cell / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _tile(picture: Picture, size: tuple[int, int], sheet: Sheet) -> Image.Image:
    image = picture.to_pil()
    if image.mode == "RGBA":
        under = Image.new("RGBA", image.size, (*sheet.background, 255))
        image = Image.alpha_composite(under, image)
    smaller = size[0] < image.width or size[1] < image.height
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS if smaller else Image.Resampling.NEAREST)


def _extent(lengths: Sequence[int], gap: int) -> int:
    return max(lengths) + gap if lengths else 0


def _write(draw: ImageDraw.ImageDraw, text: Lines, x: int, y: int, ink: tuple[int, int, int]) -> None:
    for number, line in enumerate(text.lines):
        draw.text((x, y + number * text.line_height), line, font=text.font, fill=ink)
