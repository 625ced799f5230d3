"""How far a model's pictures are from real ones: Fréchet distance in the features of a judge.

M. Heusel et al. 2017, arXiv 1706.08500, Eq. 6, beside its floor, the distance between two sets of real pictures of the
same size: what a perfect model would reach with so few. A file of systems/judges that offers, beside its `FAMILY`,

    def features_of(path: Path, device: torch.device) -> Features

is a judge that any of its weights files asks for. Book: chapter 9, "Judges".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from huggingvis.checkpoints.inspect import identify, inspect, modules_with_family
from huggingvis.core.errors import UsageError
from huggingvis.metrics.features import Features, gather
from huggingvis.metrics.frechet import frechet
from huggingvis.recipes.evaluation import Wanted
from huggingvis.recipes.pictures import Pictures, View
from huggingvis.systems import judges
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


def likeness(data: Wanted, count: int, view: View, device: torch.device, *, judge: str | None = None) -> Likeness:
    """Of `count` pictures to `data`, shown as `view` says.

    `judge`: the weights file of one; none: the packaged judge. Raises `UsageError` for too few pictures, and as
    `Wanted.open`.
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
    extract = _judge(judge, device)
    chosen = pictures.some(2 * count)
    real, other = (gather(extract, _images(chosen, half)) for half in (0, 1))  # [N, D] each
    record = {"data": str(data), "count": count, "judge": Path(judge).name if judge else "judge-world"}
    return Likeness(record, extract, real, frechet(other, real), _captions(chosen))


def _images(pictures: Pictures, half: int) -> list[Tensor]:
    """Every other of them, from the first or the second."""
    return [batch["image"][half::2] for batch in pictures.once(2 * _CHUNK)]


def _captions(pictures: Pictures) -> list[str]:
    return [text for batch in pictures.once(2 * _CHUNK) for text in batch.get("caption", ())[::2]]


def _judge(file: str | None, device: torch.device) -> Features:
    if file is None:
        return world.features_of(None, device)
    known = modules_with_family(judges)
    found = identify(inspect(file).tensors, [family for family, _ in known])
    if found is None:
        names = ", ".join(sorted(family.name for family, _ in known))
        raise UsageError(f"{file} holds the weights of no judge; known are: {names}.")
    module = next(module for family, module in known if family is found)
    extract: Features = module.features_of(Path(file), device)
    return extract
