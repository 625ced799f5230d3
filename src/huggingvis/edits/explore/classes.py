"""A row of pictures for each class of a class-conditional model. Book: chapter 2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch

from huggingvis.core.errors import UsageError
from huggingvis.core.media import Picture
from huggingvis.core.noise import SeedNoise
from huggingvis.core.request import Prompt, Request
from huggingvis.core.system import System
from huggingvis.edits.exploring import Finding, Tiles, shown


@final
@dataclass(frozen=True)
class Exploration:
    """A row for each class; a column is one noise, so that what the class changes shows.

    Attributes:
        columns: pictures of each class.
        seed: of the noise.
    """

    columns: int = 8
    seed: int = 0

    @torch.no_grad()
    def __call__(self, system: System, pictures: Sequence[Picture]) -> Finding:
        names = [str(name) for name in system.spec.card.get("classes", ())]
        if not names:
            raise UsageError(
                f"{system.spec.name!r} was trained without classes. Train one on data that have some: sub-folders of a "
                "folder, or a standard set."
            )
        request, seeds = Request(sampling=system.defaults), range(self.seed, self.seed + self.columns)
        tiles: list[Picture] = []
        for name in names:
            cond = system.conditioner([Request(Prompt(name))] * self.columns)
            tiles += shown(system, system.generator(request).sample(self.columns, cond, noise=SeedNoise(seeds)))
        text = f"{len(names)} classes, {self.columns} pictures of each."
        return Finding(
            Tiles(tiles, row_labels=tuple(names), column_labels=tuple(f"seed {seed}" for seed in seeds)),
            text,
            {"classes": names},
        )
