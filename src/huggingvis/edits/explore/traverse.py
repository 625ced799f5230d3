"""One number of a latent changed at a time: what it stands for, if for anything. Book: chapter 1."""

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
from huggingvis.edits.exploring import Finding, Tiles, able, asked, encoded, shown

DRAWS = 64
"""Draws from which the deviation of each number is taken."""


@final
@dataclass(frozen=True)
class Exploration:
    """A row for each number: the picture given (else a draw) with that number set to values around the middle.

    Attributes:
        numbers: which numbers of the latent, counted from 0; none: those that change the picture most.
        rows: how many, where none are named.
        reach: from minus this to plus this, in deviations of a draw.
        steps: pictures of a row.
        prompt: class of the pictures, for a model of classes; empty: its first.
        seed: of the draw.
    """

    numbers: tuple[int, ...] | None = None
    rows: int = 8
    reach: float = 3.0
    steps: int = 7
    prompt: str = ""
    seed: int = 0

    @torch.no_grad()
    def __call__(self, system: System, pictures: Sequence[Picture]) -> Finding:
        if self.steps < 1 or self.rows < 1:
            raise UsageError(f"A sheet has one row and one step at least, found {self.rows} and {self.steps}.")
        model = able(system, Latent, "latents with a law of their own")
        seeds = range(self.seed, self.seed + DRAWS)
        draws = model.latents(DRAWS, asked(system, self.prompt, DRAWS), noise=SeedNoise(seeds))
        flat = draws.flatten(1)  # [N, D]
        start = encoded(system, pictures[:1], self.seed)[0] if pictures else draws[0]
        spread = flat.std(0).clamp(min=1e-6)  # [D]
        chosen = self.numbers if self.numbers is not None else self._strongest(system, model, start, spread)
        if not chosen or min(chosen) < 0 or max(chosen) >= flat.shape[1]:
            raise UsageError(f"This latent has the numbers 0 to {flat.shape[1] - 1}; found {list(chosen)}.")
        middle = model.middle.expand(start.shape).flatten()  # [D]
        values = torch.linspace(-self.reach, self.reach, self.steps)
        cond = asked(system, self.prompt, self.steps, any_class=bool(pictures))
        tiles: list[Picture] = []
        for number in chosen:
            z = start.flatten().repeat(self.steps, 1)  # [steps, D]
            z[:, number] = middle[number] + values.to(z) * spread[number]
            tiles += shown(system, model.decode(z.unflatten(1, start.shape), cond))
        rows, columns = tuple(f"z{n}" for n in chosen), tuple(f"{float(v):+.1f}" for v in values)
        text = f"Numbers {', '.join(map(str, chosen))} of {flat.shape[1]}, each {self.reach:g} deviations both ways."
        record = {"numbers": list(chosen), "reach": self.reach}
        return Finding(Tiles(tiles, row_labels=rows, column_labels=columns), text, record)

    def _strongest(self, system: System, model: Latent, start: torch.Tensor, spread: torch.Tensor) -> tuple[int, ...]:
        """The numbers whose change by two deviations moves the picture most, at most 512 of them tried."""
        tried = min(spread.numel(), 512)
        change = torch.zeros(tried)
        for first in range(0, tried, 64):
            n = min(64, tried - first)
            z = start.flatten().repeat(2 * n, 1)
            for i in range(n):
                z[i, first + i] -= spread[first + i]
                z[n + i, first + i] += spread[first + i]
            x = model.decode(z.unflatten(1, start.shape), asked(system, self.prompt, 2 * n)).flatten(1)
            change[first : first + n] = (x[n:] - x[:n]).square().mean(1).cpu()
        return tuple(int(i) for i in change.argsort(descending=True)[: self.rows])
