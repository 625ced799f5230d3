"""The way between two latents, along a line or round the sphere. Book: chapter 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, final

import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.media import Picture
from huggingvis.core.noise import SeedNoise
from huggingvis.core.protocols import Latent
from huggingvis.core.system import System
from huggingvis.edits.exploring import Finding, Tiles, able, asked, between, encoded, shown


@final
@dataclass(frozen=True)
class Exploration:
    """A row of pictures for each way: between the pictures given, in pairs of neighbours, or else between draws.

    Attributes:
        steps: pictures of a row, its ends included.
        path: slerp (round the sphere) or linear.
        rows: ways between draws, where no pictures are given.
        prompt: class of the pictures, for a model of classes; empty: its first.
        seed: of the draws, and of how values of pictures are spread for a flow.
    """

    steps: int = 8
    path: Literal["slerp", "linear"] = "slerp"
    rows: int = 4
    prompt: str = ""
    seed: int = 0

    @torch.no_grad()
    def __call__(self, system: System, pictures: Sequence[Picture]) -> Finding:
        if self.steps < 2 or self.rows < 1:
            raise UsageError(f"A way has two steps and one row at least, found {self.steps} and {self.rows}.")
        model = able(system, Latent, "latents with a law of their own")
        ends = self._ends(system, model, pictures)
        share = torch.linspace(0, 1, self.steps)
        cond = asked(system, self.prompt, self.steps, any_class=bool(pictures))
        middle, sphere = model.middle, self.path == "slerp"
        rows = [
            model.decode(middle + between(a - middle, b - middle, share, round_the_sphere=sphere), cond)
            for a, b in ends
        ]
        labels = tuple(f"{float(s):.2f}" for s in share)
        tiles = Tiles([p for row in rows for p in shown(system, row)], column_labels=labels)
        text = f"{len(rows)} ways of {self.steps} steps, {self.path}."
        return Finding(tiles, text, {"rows": len(rows), "steps": self.steps, "path": self.path})

    def _ends(self, system: System, model: Latent, pictures: Sequence[Picture]) -> list[tuple[Tensor, Tensor]]:
        if not pictures:
            noise, cond = (
                SeedNoise(range(self.seed, self.seed + 2 * self.rows)),
                asked(system, self.prompt, 2 * self.rows),
            )
            z = model.latents(2 * self.rows, cond, noise=noise)
            return list(zip(z[::2], z[1::2], strict=True))
        if len(pictures) < 2:
            raise UsageError("A way leads from one picture to another: give two or more, or none to draw its ends.")
        return list(pairwise(encoded(system, pictures, self.seed)))
