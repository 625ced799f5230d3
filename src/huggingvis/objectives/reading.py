"""Teaching a text encoder to read: from a caption, say which things there are and where they are likely to be.

The encoder's slot tokens are asked, by linear probes, for the class and the box of each thing (things in order of class,
then from left to right), and for the background's colour. Boxes are Gaussian beliefs, since a sentence leaves them open:
-log N(box; mean, exp(logvar)). The probes are thrown away afterwards; what remains is an encoder whose tokens bind
attributes to things in every language it was shown. In the spirit of the text pre-training of Radford et al. 2021 (arXiv 2103.00020),
with truth in place of pictures. Book: chapter 5, "Reading the prompt".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.objective import Losses, Objective, Turn
from ..core.protocols import Batch
from ..nets.text_tower import TextTower


@final
class Probes(nn.Module):
    """Linear read-outs of the slots [B, S, D]: class (0 = nothing), box mean and log-variance, background colour."""

    def __init__(self, dim: int, classes: int):
        super().__init__()
        self.thing = nn.Linear(dim, 1 + classes)
        self.box = nn.Linear(dim, 8)
        self.ground = nn.Linear(dim, 3)


@final
class Reading(Objective):
    """Batch: `ids` [B, L]; `boxes` [B, S, 4], `classes` [B, S] (-1 = nothing); `ground` [B, 3] in [0, 1]."""

    def __init__(self, tower: TextTower, classes: int):
        super().__init__()
        self.tower, self.probes = tower, Probes(tower.config.dim, classes)

    def nets(self) -> Mapping[str, nn.Module]:
        return {"text": self.tower, "probes": self.probes}

    def turns(self, step: int) -> tuple[Turn, ...]:
        return (Turn(self.loss, ("text", "probes")),)

    def loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        tokens, _, pooled = self.tower(batch["ids"])
        slots = tokens[:, : self.tower.config.slots]  # [B, S, D]
        boxes, classes = in_order(batch["boxes"], batch["classes"])
        said = self.probes.thing(slots).float()  # [B, S, 1+K]
        thing = F.cross_entropy(said.flatten(0, 1), classes.flatten() + 1)
        mean, logvar = self.probes.box(slots).float().chunk(2, dim=-1)  # [B, S, 4]
        logvar = logvar.clamp(-8, 4)
        nll = 0.5 * ((boxes - mean) ** 2 / logvar.exp() + logvar).mean(-1)  # [B, S]
        here = classes >= 0
        ground = F.mse_loss(self.probes.ground(pooled).float(), batch["ground"])
        right = (said.argmax(-1) == classes + 1).all(1).float().mean()
        return {
            "thing": thing,
            "box": 0.3 * (nll * here).sum() / here.sum().clamp(min=1),
            "ground": ground,
            "_all_right": right,
        }


def in_order(boxes: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Things sorted by class, equal ones from left to right, nothing last."""
    key = torch.where(classes < 0, 10_000, classes) + boxes[..., 0].clamp(0, 0.99)  # [B, S]
    order = key.argsort(dim=1)
    return boxes.gather(1, order[..., None].expand_as(boxes)), classes.gather(1, order)
