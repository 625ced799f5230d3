r"""Teaching a planner: from a sentence's tokens to the things it speaks of and the places they may have.

A plan is kinds k, colours c and boxes b of S things, and its law given a sentence is taken apart as

    -log p(k, c, b) = -log p(k) - log p(c) - sum_i log p(b_i | b_1 ... b_{i-1}),

the boxes' as `objectives.code_prior` has it, kinds and colours each by a cross-entropy over all slots, where "none" is
one of the answers. Each term is the mean over its numbers. Book: chapter 5, "Plan, then draw".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import nn
from torch.nn import functional as F

from huggingvis.core.objective import Losses, Objective, Turn
from huggingvis.core.protocols import Batch
from huggingvis.nets.code_prior import CodePrior
from huggingvis.nets.plan_reader import PlanReader, told
from huggingvis.nets.text_tower import TextTower
from huggingvis.objectives.code_prior import AutoregressiveCodes


@final
class Planning(Objective):
    """Batch: `ids` [B, L]; `kinds`, `colours` [B, S] (-1: none) and `codes` [B, S, 4] in the order of the slots.

    `reader` and `prior` learn, `tower` is frozen.
    """

    def __init__(self, reader: PlanReader, prior: CodePrior, tower: TextTower):
        super().__init__()
        self.reader, self.codes = reader, AutoregressiveCodes(prior)
        self.tower = tower.requires_grad_(False).eval()

    def nets(self) -> Mapping[str, nn.Module]:
        return {"reader": self.reader, "prior": self.codes.net}

    def turns(self, step: int) -> tuple[Turn, ...]:
        return (Turn(self.loss, ("reader", "prior")),)

    def loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        with torch.no_grad():
            tokens, mask, _ = self.tower(batch["ids"])
        kind, colour = (logits.float() for logits in self.reader(tokens, mask))  # [B, S, 1+K], [B, S, 1+C]
        kinds, colours = batch["kinds"] + 1, batch["colours"] + 1
        surprise = self.codes.surprise(batch["codes"], told(tokens, mask, self.reader.slots))  # [B, 4 S]
        right = ((kind.argmax(-1) == kinds) & (colour.argmax(-1) == colours)).all(1).float().mean()
        return {
            "kind": F.cross_entropy(kind.flatten(0, 1), kinds.flatten()),
            "colour": F.cross_entropy(colour.flatten(0, 1), colours.flatten()),
            "boxes": surprise.mean(),
            "_nats": surprise.detach().sum(1).mean(),
            "_all_right": right,
        }
