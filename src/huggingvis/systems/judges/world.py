"""The frozen judge of the synthetic world: names and places the things in a picture, and gives features for Fréchet.

Detector: objects as points (Zhou et al. 2019, arXiv 1904.07850), trained by recipe `world_judge`. It never takes part
in training a generator. Book: chapter 9, "Judges".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from huggingvis.metrics.scene_accuracy import Detection, Detections
from huggingvis.nets.detector import Detector, DetectorConfig, Maps
from huggingvis.systems.packaged import built, fill, packaged, read_as


@final
class WorldJudge:
    """`judge(pictures)`: detections in each picture, uint8 [B, H, W, 3]; those at least `threshold` sure count."""

    def __init__(self, net: Detector, keys: tuple[str, ...], threshold: float = 0.35):
        self.net, self.keys, self.threshold = net, keys, threshold

    @torch.no_grad()
    def __call__(self, pictures: np.ndarray) -> list[Detections]:
        x = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
        maps = self.net(x.to(next(self.net.parameters()).device))
        return [self._read(Maps(*(m[i].float().cpu() for m in maps))) for i in range(len(x))]

    def features(self, x: Tensor) -> Tensor:
        """Pooled features [B, D] on the CPU of pictures [B, 1 or 3, H, W] in [-1, 1] of any kind: the judge was trained
        to see edges and colours."""
        return self.net.features(x.to(next(self.net.parameters()).device).expand(-1, 3, -1, -1)).cpu()

    def _read(self, maps: Maps) -> Detections:
        """Peaks of the heat [S, h, w] that no neighbour tops, with their class and box."""
        heat = maps.heat.sigmoid()
        peak = (heat == F.max_pool2d(heat, 3, 1, 1)) & (heat > self.threshold)
        _, h, w = heat.shape
        found = []
        for s, y, x in peak.nonzero().tolist():
            certain, number = maps.classes[s, :, y, x].softmax(0).max(0)
            dx, dy, lw, lh = maps.box[s, :, y, x].tolist()
            wide, high = float(np.exp(min(lw, 4.0))) / w, float(np.exp(min(lh, 4.0))) / h
            centre = (x + 0.5 + dx) / w, (y + 0.5 + dy) / h
            name, colour = self._parted(self.keys[int(number)])
            box = (centre[0] - wide / 2, centre[1] - high / 2, wide, high)
            found.append(Detection(name, colour, box, float(heat[s, y, x] * certain) ** 0.5))
        return tuple(found)

    @staticmethod
    def _parted(key: str) -> tuple[str, str | None]:
        colour, _, name = key.rpartition(" ")
        return name, colour or None


@final
@dataclass(frozen=True)
class Record:
    """What `model.json` says. `keys`: the name of each class."""

    detector: DetectorConfig
    keys: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.keys) != self.detector.classes:
            raise ValueError(f"'keys' must name {self.detector.classes} classes, but {len(self.keys)} were found.")


def bind(folder: Path | None = None, device: torch.device | None = None) -> WorldJudge:
    """The judge of `folder`, or the one that ships with the package."""
    folder = folder or packaged("judge-world")
    record = read_as(folder, Record)
    net = built(folder, "detector", lambda: Detector(record.detector))
    fill(net, folder / "detector.safetensors", device or torch.device("cpu"))
    return WorldJudge(net, record.keys)
