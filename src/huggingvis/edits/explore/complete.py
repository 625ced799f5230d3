"""Pictures of which a part is hidden, completed in several ways, beside the truth.

Sohn, Lee & Yan 2015 (NeurIPS), Sec. 5.1 and Fig. 2, for any model that `Completes`. Book: chapter 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch

from huggingvis.core.errors import UsageError
from huggingvis.core.media import Picture
from huggingvis.core.noise import SeedNoise
from huggingvis.core.protocols import Completes
from huggingvis.core.system import System
from huggingvis.edits.exploring import Finding, Tiles, able, shown
from huggingvis.metrics.psnr import psnr


@final
@dataclass(frozen=True)
class Exploration:
    """A row for each picture: what of it is seen, the likeliest completion, draws, and the picture itself.

    A column of draws is one noise.

    Attributes:
        draws: completions drawn of each picture.
        seed: of the draws.
    """

    draws: int = 8
    seed: int = 0

    @torch.no_grad()
    def __call__(self, system: System, pictures: Sequence[Picture]) -> Finding:
        if self.draws < 0:
            raise UsageError(f"A number of draws is 0 or more, found {self.draws}.")
        model = able(system, Completes, "way to complete pictures")
        x = system.signals(pictures)
        seen = model.seen(x)
        columns = [torch.where(seen, x, torch.zeros_like(x)), model.likeliest(x)]
        for number in range(self.draws):
            columns.append(model.complete(x, noise=SeedNoise([self.seed + number] * len(x))))
        labels = ("seen", "likeliest", *(str(number + 1) for number in range(self.draws)), "truth")
        tiles = Tiles(shown(system, torch.stack([*columns, x], dim=1).flatten(0, 1)), column_labels=labels)
        hidden = psnr(columns[1].clamp(-1, 1), x, data_range=2.0, mask=~seen)  # [B]
        share, decibels = float(seen.float().mean()), [round(float(d), 2) for d in hidden]
        text = (
            f"{100 * share:.0f} % of {len(x)} pictures seen; the likeliest completions come within "
            f"{sum(decibels) / len(decibels):.2f} dB of what was hidden, on average."
        )
        return Finding(tiles, text, {"seen": round(share, 4), "draws": self.draws, "psnr_db": decibels})
