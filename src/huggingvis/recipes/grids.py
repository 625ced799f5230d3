"""Grids: the same request with one, two or three of its fields changed, on one labelled sheet.

x goes to the right, y down, z from one block to the next. Every cell is a row of a batch (`recipes.batching`): saved,
recorded, made once, and taken together by model and adapters, which cost the most to change. Book: the three walks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from huggingvis.core.axes import Axis, cells_of
from huggingvis.core.errors import UsageError
from huggingvis.core.media import Picture
from huggingvis.core.picture_files import open_picture
from huggingvis.core.row_files import Cells
from huggingvis.export.grid import Sheet, cell_for, contact_sheet, stacked
from huggingvis.recipes.batching import Outcome, Row


@dataclass(frozen=True)
class Axes:
    """The axes of a grid; `most`: cells that it may have."""

    x: Axis | None = None
    y: Axis | None = None
    z: Axis | None = None
    most: int = 1000

    def __post_init__(self) -> None:
        if self.x is None and self.y is None and self.z is None:
            raise UsageError("A grid needs an axis, as in --x steps=5,10,20.")

    @property
    def lengths(self) -> tuple[int, int, int]:
        """Values of x, y and z; 1 for an axis that is not there."""
        x, y, z = (1 if axis is None else len(axis.values) for axis in (self.x, self.y, self.z))
        return x, y, z

    def cells(self) -> list[Cells]:
        """Names and values of every cell, row by row and block by block, numbered from 1. Raises `UsageError`."""
        found = cells_of((self.x, self.y, self.z), self.most)
        return [Cells(number, values) for number, values in enumerate(found, start=1)]

    def to_dict(self) -> dict[str, Any]:
        """In JSON values."""
        named = {"x": self.x, "y": self.y, "z": self.z}
        return {key: {"name": axis.name, "values": list(axis.values)} for key, axis in named.items() if axis}


def check_cells(rows: Sequence[Row]) -> None:
    """Refuse cells of more than one picture. Raises `UsageError`."""
    counts = Counter[int]()
    for row in rows:  # a cell whose pictures draw words of their own is several
        counts[row.number] += row.request.canvas.count
    if (most := max(counts.values())) != 1:
        raise UsageError(
            f"A cell of a grid shows one picture, but {most} are asked for. Leave the count out, or make the seed an "
            "axis: --z seed=0-3."
        )


def sheet_of(axes: Axes, outcomes: Sequence[Outcome], made: dict[str, Any] | None = None) -> Picture:
    """The labelled sheet of a grid whose cells are all done; one that failed is a grey cell that says so.

    Raises `UsageError` where no cell has a picture.
    """
    found = [open_picture(outcome.paths[0]) if outcome.paths else None for outcome in outcomes]
    sides = [max(picture.size) for picture in found if picture is not None]
    if not sides:
        raise UsageError(f"No cell of the grid has a picture, so there is no sheet: {outcomes[0].error}")
    side = max(sides)
    pictures = [picture or Picture(np.full((side, side, 3), 200, np.uint8)) for picture in found]
    captions = ["" if picture else "failed" for picture in found] if None in found else []
    x, y, z = axes.lengths
    blocks = []
    for block in range(z):
        part = slice(block * x * y, (block + 1) * x * y)
        sheet = Sheet(
            x, cell_for(side),
            row_labels=axes.y.labels() if axes.y else (), column_labels=axes.x.labels() if axes.x else (),
            title=axes.z.labels()[block] if axes.z else "",
        )  # fmt: skip
        blocks.append(contact_sheet(pictures[part], sheet, captions[part]))
    whole = blocks[0] if z == 1 else stacked(blocks)
    return Picture(whole.pixels, None, {"grid": axes.to_dict(), **(made or {})})
