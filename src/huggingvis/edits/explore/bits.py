"""What a model with a likelihood would need to tell each of some pictures, and which of them surprise it.

A continuous density over [-1, 1] is asked for the probability of the 256 levels that a picture has (`objectives.
likelihood`), and its answer is told in bits per number; other models' nats are of the datum that they model (a VAE's of
on and off), by a lower bound, and are told as they are. Book: chapter 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch

from huggingvis.core.errors import UsageError
from huggingvis.core.media import Picture
from huggingvis.core.protocols import Density, Likelihood
from huggingvis.core.system import System
from huggingvis.edits.exploring import Finding, Tiles, able, shown
from huggingvis.objectives.likelihood import log_probability


@final
@dataclass(frozen=True)
class Exploration:
    """The pictures, the least likely first: bits per number under a density, else nats.

    Attributes:
        draws: dequantisations of each picture, for a density; more of them tighten the bound.
        chunk: pictures reckoned at a time.
        seed: of the dequantisation.
    """

    draws: int = 4
    chunk: int = 64
    seed: int = 0

    @torch.no_grad()
    def __call__(self, system: System, pictures: Sequence[Picture]) -> Finding:
        if self.draws < 1 or self.chunk < 1:
            raise UsageError(f"Draws and chunk are 1 or more, found {self.draws} and {self.chunk}.")
        model = able(system, Likelihood, "likelihood")
        x = system.signals(pictures)
        parts = x.split(self.chunk)
        if isinstance(model, Density):
            nats = torch.cat([log_probability(model, part, draws=self.draws, seed=self.seed) for part in parts]).cpu()
            told, unit = -nats / (model.dims * math.log(2)), "bits per number"
        else:
            nats = torch.cat([model.log_prob(part) for part in parts]).cpu().double()
            told, unit = -nats, "nats"
        order = nats.argsort()  # [B], the least likely first
        captions = tuple(f"{float(told[i]):.2f} {unit}" for i in order)
        log_prob, value = ([round(float(number), 4) for number in numbers] for numbers in (nats, told))
        record = {"log_prob": log_prob, "unit": unit, "told": value}
        text = f"{float(told.mean()):.3f} {unit} on average of {len(x)} pictures."
        return Finding(Tiles(shown(system, x[order.to(x.device)]), captions=captions), text, record)
