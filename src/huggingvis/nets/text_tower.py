"""A small transformer over text tokens: the encoder that ships with the tiny text-to-image system.

Pre-norm encoder (Vaswani et al. 2017, arXiv 1706.03762; Radford et al. 2021, arXiv 2103.00020, section 2.4), looking
both ways. Book: chapter 5, "Reading the prompt".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.nets.encoder_layer import EncoderLayer, gelu, run


@dataclass(frozen=True)
class TextTowerConfig:
    """Sizes of a `TextTower`.

    Attributes:
        vocabulary: number of token ids; id 0 is padding.
        length: most tokens it reads.
        dim: width.
        depth: layers.
        heads: attention heads.
        mult: feed-forward width over `dim`.
        slots: learned tokens put before the text, for what it is about; they come out with the others.
    """

    vocabulary: int = 1024
    length: int = 64
    dim: int = 192
    depth: int = 4
    heads: int = 4
    mult: int = 3
    slots: int = 4


def layer(c: TextTowerConfig) -> EncoderLayer:
    """One of the tower's layers."""
    return EncoderLayer(c.dim, c.heads, c.mult * c.dim, gelu)


@final
class TextTower(nn.Module):
    """ids [B, L] int64 (0 = padding) -> tokens [B, S+L, D], their mask [B, S+L] bool, and pooled [B, D].

    The first S tokens are the slots: always visible, so an empty text still conditions.
    """

    def __init__(self, config: TextTowerConfig):
        super().__init__()
        self.config = c = config
        self.token = nn.Embedding(c.vocabulary, c.dim)
        self.position = nn.Parameter(0.02 * torch.randn(c.length, c.dim))
        self.slots = nn.Parameter(0.02 * torch.randn(c.slots, c.dim))
        self.layers = nn.ModuleList(layer(c) for _ in range(c.depth))
        self.norm = nn.LayerNorm(c.dim)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        text = self.token(ids) + self.position[: ids.shape[1]]  # [B, L, D]
        h = torch.cat([self.slots.expand(len(ids), -1, -1), text], dim=1)  # [B, S+L, D]
        mask = F.pad(ids != 0, (self.config.slots, 0), value=True)  # [B, S+L]
        tokens = self.norm(run(self.layers, h, None, mask))
        weight = mask.to(tokens.dtype)[..., None]
        return tokens, mask, (tokens * weight).sum(1) / weight.sum(1)  # pooled: [B, D]
