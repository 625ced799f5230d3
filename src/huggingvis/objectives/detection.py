"""Objects as points: the loss of a centre-heat-map detector.

Zhou et al. 2019 (arXiv 1904.07850), eq. 1 (focal loss on Gaussian heat) and section 4 (size, offset). Targets come from
exact layouts. Book: chapter 9, "Judges".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.core.objective import Losses, Objective, Turn
from huggingvis.core.protocols import Batch


@dataclass(frozen=True)
class Targets:
    """What each cell should say. M objects a picture, padded."""

    heat: Tensor  # [B, S, h, w] in [0, 1], exactly 1 at centres
    owner: Tensor  # [B, S, h, w] int64: which object a cell belongs to
    near: Tensor  # [B, S, h, w] bool: the cell is close enough to a centre to name it


def targets(boxes: Tensor, slot: Tensor, present: Tensor, size: tuple[int, int], slots: int) -> Targets:
    """`boxes` [B, M, 4] (x0, y0, x1, y1 in [0, 1]), `slot` [B, M] int64, `present` [B, M] bool; `size` is (h, w)."""
    h, w = size
    scale = boxes.new_tensor([w, h])
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2 * scale  # [B, M, 2] in cells
    extent = (boxes[..., 2:] - boxes[..., :2]) * scale
    sigma = (0.15 * extent.mean(-1)).clamp(min=0.6)  # [B, M]
    y, x = torch.arange(h, device=boxes.device), torch.arange(w, device=boxes.device)
    cell = centre.floor().clamp(min=0).minimum(scale - 1)
    dx = x - cell[..., 0, None]  # [B, M, w]
    dy = y - cell[..., 1, None]  # [B, M, h]
    d2 = dy[..., :, None] ** 2 + dx[..., None, :] ** 2  # [B, M, h, w]
    bump = torch.exp(-d2 / (2 * sigma[..., None, None] ** 2)) * present[..., None, None]
    mine = slot[:, :, None] == torch.arange(slots, device=boxes.device)  # [B, M, S]
    heat, owner = (bump[:, :, None] * mine[..., None, None]).max(dim=1)  # [B, S, h, w]
    return Targets(heat, owner, heat > 0.4)


@final
class Detection(Objective):
    """Batch: `image` [B, 3, H, W] in [-1, 1], `boxes` [B, M, 4], `classes` [B, M] (-1 = no object), `slot` [B, M]."""

    def __init__(self, net: nn.Module, smoothing: float = 0.02):
        super().__init__()
        self.net, self.smoothing = net, smoothing

    def nets(self) -> Mapping[str, nn.Module]:
        return {"detector": self.net}

    def turns(self, step: int) -> tuple[Turn, ...]:
        return (Turn(self.loss, ("detector",)),)

    def loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        maps = self.net(batch["image"])
        heat, classes, box = maps.heat.float(), maps.classes.float(), maps.box.float()
        _, slots, h, w = heat.shape
        t = targets(batch["boxes"], batch["slot"], batch["classes"] >= 0, (h, w), slots)
        b, s, y, x = t.near.nonzero(as_tuple=True)
        who = t.owner[b, s, y, x]
        logits = classes[b, s, :, y, x]  # [n, K]
        named = F.cross_entropy(logits, batch["classes"][b, who], label_smoothing=self.smoothing)
        true = batch["boxes"][b, who] * torch.tensor([w, h, w, h], device=heat.device)  # [n, 4] in cells
        offset = (true[:, :2] + true[:, 2:]) / 2 - torch.stack([x, y], 1) - 0.5
        goal = torch.cat([offset, (true[:, 2:] - true[:, :2]).clamp(min=0.1).log()], 1)
        placed = F.l1_loss(box[b, s, :, y, x], goal)
        accuracy = (logits.argmax(1) == batch["classes"][b, who]).float().mean()
        return {"heat": focal(heat, t.heat), "class": named, "box": placed, "_accuracy": accuracy}


def focal(logits: Tensor, target: Tensor) -> Tensor:
    """Penalty-reduced focal loss, eq. 1 with alpha = 2, beta = 4, normalised by the number of centres."""
    p = logits.sigmoid()
    hit = target == 1
    at = F.logsigmoid(logits) * (1 - p) ** 2 * hit
    off = F.logsigmoid(-logits) * p**2 * (1 - target) ** 4 * ~hit
    return -(at + off).sum() / hit.sum().clamp(min=1)
