"""Teaching a text encoder to read: from a caption, say which things there are and where they are likely to be.

The encoder's slot tokens are asked, by linear probes, for the kind, the colour and the box of each thing (things in
order of kind and colour, then from left to right), and for the background's colour. Kind and colour are asked apart, so
a combination that training never showed is still read. Boxes are Gaussian beliefs, since a sentence leaves them open:
-log N(box; mean, exp(logvar)). The probes are thrown away afterwards; what remains is an encoder whose tokens bind
attributes to things in every language it was shown. In the spirit of the text pre-training of Radford et al. 2021
(arXiv 2103.00020), with truth in place of pictures. Book: chapter 5, "Reading the prompt".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.core.objective import Losses, Objective, Turn
from huggingvis.core.protocols import Batch
from huggingvis.nets.text_tower import TextTower


@final
class Probes(nn.Module):
    """Linear read-outs of the slots [B, S, D]: kind and colour (0 = none), box mean and log-variance; background."""

    def __init__(self, dim: int, kinds: int, colours: int):
        super().__init__()
        self.kind, self.colour = nn.Linear(dim, 1 + kinds), nn.Linear(dim, 1 + colours)
        self.box = nn.Linear(dim, 8)
        self.ground = nn.Linear(dim, 3)


@final
class Reading(Objective):
    """Batch: `ids` [B, L]; `boxes` [B, S, 4]; `kinds` and `colours` [B, S] (-1 = none); `ground` [B, 3] in [0, 1]."""

    def __init__(self, tower: TextTower, kinds: int, colours: int):
        super().__init__()
        self.tower, self.probes = tower, Probes(tower.config.dim, kinds, colours)

    def nets(self) -> Mapping[str, nn.Module]:
        return {"text": self.tower, "probes": self.probes}

    def turns(self, step: int) -> tuple[Turn, ...]:
        return (Turn(self.loss, ("text", "probes")),)

    def loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        tokens, _, pooled = self.tower(batch["ids"])
        slots = tokens[:, : self.tower.config.slots]  # [B, S, D]
        kinds, colours, boxes = sorted_things(batch["kinds"], batch["colours"], batch["boxes"])
        kind, colour = self.probes.kind(slots).float(), self.probes.colour(slots).float()  # [B, S, 1+K], [B, S, 1+C]
        thing = F.cross_entropy(kind.flatten(0, 1), kinds.flatten() + 1)
        tint = F.cross_entropy(colour.flatten(0, 1), colours.flatten() + 1)
        mean, logvar = self.probes.box(slots).float().chunk(2, dim=-1)  # [B, S, 4]
        logvar = logvar.clamp(-8, 4)
        nll = 0.5 * ((boxes - mean) ** 2 / logvar.exp() + logvar).mean(-1)  # [B, S]
        here = kinds >= 0
        ground = F.mse_loss(self.probes.ground(pooled).float(), batch["ground"])
        right = ((kind.argmax(-1) == kinds + 1) & (colour.argmax(-1) == colours + 1)).all(1).float().mean()
        return {
            "kind": thing,
            "colour": tint,
            "box": 0.3 * (nll * here).sum() / here.sum().clamp(min=1),
            "ground": ground,
            "_all_right": right,
        }


def sorted_things(kinds: Tensor, colours: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Kinds and colours [B, S], boxes [B, S, 4], in the order of the slots: by kind, by colour, from left to right."""
    order = in_order(boxes, kinds * 100 + colours, kinds < 0)  # [B, S]; there are fewer than 100 colours
    return kinds.gather(1, order), colours.gather(1, order), boxes.gather(1, order[..., None].expand_as(boxes))


def in_order(boxes: Tensor, key: Tensor, absent: Tensor) -> Tensor:
    """[B, S] indices that sort things by `key`, equal ones from left to right, absent ones last."""
    across = boxes[..., 0].argsort(dim=1, stable=True)
    rank = torch.where(absent, 1_000_000, key).gather(1, across)
    return across.gather(1, rank.argsort(dim=1, stable=True))
