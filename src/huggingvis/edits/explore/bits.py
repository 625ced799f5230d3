"""Bits per dimension of pictures: what a model with a likelihood would need to tell each of them exactly.

For a density over [-1, 1] a picture of 8 bits is a little cube of side 1/127.5 in it. Book: chapter 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch

from huggingvis.core.media import Picture
from huggingvis.core.protocols import Likelihood
from huggingvis.core.system import System
from huggingvis.edits.exploring import Finding, Tiles, able, shown, signals


@final
@dataclass(frozen=True)
class Exploration:
    """The pictures, the least likely first, each with its nats and, for a density of grey values, bits per number.

    Attributes:
        chunk: pictures reckoned at a time.
    """

    chunk: int = 64

    @torch.no_grad()
    def __call__(self, system: System, pictures: Sequence[Picture]) -> Finding:
        model = able(system, Likelihood, "likelihood")
        x = signals(system, pictures)
        nats = torch.cat([model.log_prob(part) for part in x.split(self.chunk)]).double().cpu()  # [B]
        order = nats.argsort()
        captions = tuple(f"{float(nats[i]):.1f} nats" for i in order)
        tiles = Tiles(shown(system, x[order.to(x.device)]), captions=captions)
        record = {"nats": [round(float(n), 4) for n in nats]}
        return Finding(tiles, f"log p(x): {float(nats.mean()):.2f} nats on average of {len(x)} pictures.", record)
