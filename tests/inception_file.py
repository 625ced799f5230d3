"""A stand-in for the Inception file of FID, with the names and shapes of the published one and random numbers."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from huggingvis.nets.inception import InceptionV3
from huggingvis.systems.judges.inception import keymap

SHAPES = {"a": [(32, 32, 3), (24, 40, 3), (28, 28, 1)], "b": [(32, 32, 3), (17, 9, 3), (64, 48, 3)]}
"""(height, width, channels) of the pictures in each folder."""


def tensors() -> dict[str, Tensor]:
    """Numbers by their names, sized so that signals keep their size through the layers."""
    with torch.device("meta"):
        ours = InceptionV3().state_dict()
    shapes = {name: tuple(x.shape) for name, x in keymap().to_theirs(ours).items()}
    shapes |= {"fc.weight": (1008, 2048), "fc.bias": (1008,)}
    counts = {name.replace("running_var", "num_batches_tracked"): torch.tensor(0) for name in shapes if "_var" in name}
    return {name: _filled(name, shape) for name, shape in shapes.items()} | counts


def _filled(name: str, shape: tuple[int, ...]) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    if name.endswith("conv.weight"):
        return x * (2 / x[0].numel()) ** 0.5
    if name.endswith("running_var"):
        return 1 + 0.3 * x.abs()
    return 1 + 0.1 * x if name.endswith("bn.weight") else 0.02 * x


def save_pictures(folder: Path) -> None:
    """Two folders, `a` and `b`, of three smooth pictures each."""
    for number, (name, shapes) in enumerate(SHAPES.items()):
        (folder / name).mkdir(parents=True)
        for i, (height, width, channels) in enumerate(shapes):
            seed = 10 * number + i
            low = np.random.RandomState(seed).randint(0, 256, (3 + seed % 2, 4, channels)).astype(np.uint8)
            image = Image.fromarray(low[..., 0] if channels == 1 else low)
            image.resize((width, height), Image.Resampling.BILINEAR).save(folder / name / f"{i}.png")
