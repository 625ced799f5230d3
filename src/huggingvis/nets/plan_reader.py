"""Which things a sentence speaks of: transformer layers over a text encoder's tokens, with a read-out of each slot.

Book: chapter 5, "Plan, then draw".
"""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from huggingvis.core.protocols import Cond
from huggingvis.nets.encoder_layer import run
from huggingvis.nets.text_tower import TextTowerConfig, layer

SIDES = 4  # of a box


@final
class PlanReader(nn.Module):
    """tokens [B, S + L, D], the first S of them slots, and their mask -> logits of each slot's kind and colour.

    Kinds [B, S, 1 + kinds], colours [B, S, 1 + colours]; the first of each is none. Fresh layers leave the tokens as
    they are: at first the slots are read out as the encoder made them.
    """

    def __init__(self, dim: int, slots: int, kinds: int, colours: int, depth: int, heads: int):
        super().__init__()
        self.slots = slots
        layers = [layer(TextTowerConfig(dim=dim, heads=heads)) for _ in range(depth)]
        for fresh in layers:
            for last in (fresh.attn.to_out, fresh.fc2):
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)
        self.layers = nn.ModuleList(layers)
        self.kind, self.colour = nn.Linear(dim, 1 + kinds), nn.Linear(dim, 1 + colours)

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        slots = run(self.layers, tokens, None, mask)[:, : self.slots]
        return self.kind(slots), self.colour(slots)


def told(tokens: Tensor, mask: Tensor, slots: int) -> Cond:
    """What a text encoder's `tokens` [B, S + L, D] tell the law of boxes: all of them, and of each thing its slot."""
    return {"tokens": tokens, "tokens_mask": mask, "vector": tokens[:, :slots].repeat_interleave(SIDES, dim=1)}
