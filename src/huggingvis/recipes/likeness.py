"""How far a model's pictures are from real ones: Fréchet distance in the features of a judge.

M. Heusel et al. 2017, arXiv 1706.08500, Eq. 6, beside its floor, the distance between two sets of real pictures of the
same size: what a perfect model would reach with so few. Book: chapter 9, "Judges".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.metrics.features import Features, gather
from huggingvis.metrics.frechet import frechet
from huggingvis.recipes.evaluation import Wanted
from huggingvis.recipes.judging import open_features
from huggingvis.recipes.pictures import Pictures, View
from huggingvis.systems.judges import world

LEAST = 50
"""Pictures below which a distance is little but its own bias."""
_CHUNK = 64


@dataclass(frozen=True)
class Likeness:
    """`extract` and the features of `count` real pictures, [N, D]; `floor`: their distance to as many others.

    `captions` are theirs, where the data have any: pictures that are asked for by them show the same scenes, and may
    come nearer than the others.
    """

    record: dict[str, Any]
    extract: Features
    real: Tensor
    floor: float
    captions: Sequence[str]

    def __call__(self, pictures: Tensor) -> float:
        """The distance of `pictures` [N, C, H, W] in [-1, 1]."""
        return frechet(gather(self.extract, pictures.split(_CHUNK)), self.real)


def likeness(data: Wanted, count: int, view: View, device: torch.device, *, judge: Path | None = None) -> Likeness:
    """Of `count` pictures to `data`, shown as `view` says.

    `judge`: weights or run of one; none: the packaged judge. Raises `UsageError` for too few pictures, and as
    `Wanted.open` and `open_features`.
    """
    pictures = data.open(view)
    if count < LEAST or len(pictures) < 2 * count:
        most = len(pictures) // 2
        way = f"Ask for {LEAST} to {most}" if most >= LEAST else "Name more pictures"
        raise UsageError(
            f"A Fréchet distance is told from at least {LEAST} pictures and twice as many real ones, so that it has a "
            f"floor to be compared with; asked for {count}, and the {data} has {len(pictures)}. {way}; 500 or more "
            "tell much."
        )
    extract = open_features(judge, device) if judge else world.bind(device=device).features
    chosen = pictures.some(2 * count)
    real, other = (gather(extract, _images(chosen, half)) for half in (0, 1))  # [N, D] each
    record = {"data": str(data), "count": count, "judge": judge.name if judge else "judge-world"}
    return Likeness(record, extract, real, frechet(other, real), _captions(chosen))


def _images(pictures: Pictures, half: int) -> list[Tensor]:
    """Every other of them, from the first or the second."""
    return [batch["image"][half::2] for batch in pictures.once(2 * _CHUNK)]


def _captions(pictures: Pictures) -> list[str]:
    return [text for batch in pictures.once(2 * _CHUNK) for text in batch.get("caption", ())[::2]]
