"""Style mixing: the coarse layers of one picture with the fine layers of another.

Karras et al. 2018 (arXiv 1812.04948, Sec. 3.1 and Fig. 3). Book: chapter 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch

from huggingvis.core.errors import UsageError
from huggingvis.core.media import Picture
from huggingvis.core.noise import SeedNoise
from huggingvis.core.protocols import Styles
from huggingvis.core.system import System
from huggingvis.edits.exploring import Finding, Tiles, able, asked, shown


@final
@dataclass(frozen=True)
class Exploration:
    """Sources A beside the rows, B above the columns; each cell has A's styles before `layer` and B's from there on.

    Attributes:
        layer: where the styles change over; none: half way.
        rows: sources A.
        columns: sources B.
        seed: of the draws.
    """

    layer: int | None = None
    rows: int = 4
    columns: int = 5
    seed: int = 0

    @torch.no_grad()
    def __call__(self, system: System, pictures: Sequence[Picture]) -> Finding:
        if self.rows < 1 or self.columns < 1:
            raise UsageError(f"A sheet has one row and one column at least, found {self.rows} and {self.columns}.")
        model = able(system, Styles, "styles for each layer")
        count = self.rows + self.columns
        ws = model.latents(count, asked(system, "", count), noise=SeedNoise(range(self.seed, self.seed + count)))
        layers = ws.shape[1]
        layer = layers // 2 if self.layer is None else self.layer
        if not 0 <= layer <= layers:
            raise UsageError(f"This generator has {layers} layers of styles; found a change at {layer}.")
        a, b = ws[: self.rows], ws[self.rows :]
        coarse = a[:, None, :layer].expand(-1, self.columns, -1, -1)
        fine = b[None, :, layer:].expand(self.rows, -1, -1, -1)
        mixed = torch.cat([coarse, fine], dim=2)  # [rows, columns, L, D]
        cells = shown(system, model.decode(mixed.flatten(0, 1), {}))
        left, top = shown(system, model.decode(a, {})), shown(system, model.decode(b, {}))
        white = Picture(top[0].pixels * 0 + 255)
        tiles = [white, *top]
        for row in range(self.rows):
            tiles += [left[row], *cells[row * self.columns : (row + 1) * self.columns]]
        rows = ("B", *(f"A{i + 1}" for i in range(self.rows)))
        columns = ("A", *(f"B{i + 1}" for i in range(self.columns)))
        text = f"Layers 0 to {layer - 1} of A, {layer} to {layers - 1} of B."
        return Finding(Tiles(tiles, row_labels=rows, column_labels=columns), text, {"layer": layer, "layers": layers})
