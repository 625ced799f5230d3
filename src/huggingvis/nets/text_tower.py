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

from huggingvis.nets.attention import Attention


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


class Layer(nn.Module):
    """x + attention(norm x); x + feed-forward(norm x)."""

    def __init__(self, c: TextTowerConfig):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(c.dim), Attention(c.dim, c.heads, qkv_bias=True)
        self.norm2 = nn.LayerNorm(c.dim)
        self.fc1, self.fc2 = nn.Linear(c.dim, c.mult * c.dim), nn.Linear(c.mult * c.dim, c.dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x), mask=mask)
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


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
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.depth))
        self.norm = nn.LayerNorm(c.dim)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        text = self.token(ids) + self.position[: ids.shape[1]]  # [B, L, D]
        h = torch.cat([self.slots.expand(len(ids), -1, -1), text], dim=1)  # [B, S+L, D]
        mask = F.pad(ids != 0, (self.config.slots, 0), value=True)  # [B, S+L]
        for layer in self.layers:
            h = layer(h, mask)
        tokens = self.norm(h)
        weight = mask.to(tokens.dtype)[..., None]
        return tokens, mask, (tokens * weight).sum(1) / weight.sum(1)  # pooled: [B, D]
