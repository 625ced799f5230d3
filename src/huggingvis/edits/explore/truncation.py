"""Latents drawn towards their middle: variety traded for fidelity.

Karras et al. 2018 (arXiv 1812.04948, App. B) for styles; for a flow it is the temperature of Kingma & Dhariwal 2018
(arXiv 1807.03039, Sec. 6). Book: chapter 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch

from huggingvis.core.errors import UsageError
from huggingvis.core.media import Picture
from huggingvis.core.noise import SeedNoise
from huggingvis.core.protocols import Latent
from huggingvis.core.system import System
from huggingvis.edits.exploring import Finding, Tiles, able, asked, shown


@final
@dataclass(frozen=True)
class Exploration:
    """A row for each draw, a column for each psi: z = middle + psi (z - middle).

    Attributes:
        psi: the shares.
        rows: draws.
        prompt: class of the pictures, for a model of classes; empty: its first.
        seed: of the draws.
    """

    psi: tuple[float, ...] = (0.0, 0.25, 0.5, 0.7, 0.85, 1.0)
    rows: int = 4
    prompt: str = ""
    seed: int = 0

    @torch.no_grad()
    def __call__(self, system: System, pictures: Sequence[Picture]) -> Finding:
        if self.rows < 1 or not self.psi:
            raise UsageError(f"A sheet has one row and one psi at least, found {self.rows} and {list(self.psi)}.")
        model = able(system, Latent, "latents with a law of their own")
        cond = asked(system, self.prompt, self.rows)
        z = model.latents(self.rows, cond, noise=SeedNoise(range(self.seed, self.seed + self.rows)))
        columns = [model.decode(model.middle + psi * (z - model.middle), cond) for psi in self.psi]
        x = torch.stack(columns, dim=1)  # [rows, psi, C, H, W]
        variety = [round(float(column.std(0).mean()), 4) for column in columns] if self.rows > 1 else []
        labels = tuple(f"psi {psi:g}" for psi in self.psi)
        text = "Deviation of pixels between the draws: " + ", ".join(
            f"{v:.3f} at {psi:g}" for v, psi in zip(variety, self.psi, strict=False)
        )
        tiles = Tiles(shown(system, x.flatten(0, 1)), column_labels=labels)
        return Finding(tiles, text, {"psi": list(self.psi), "deviation": variety})
