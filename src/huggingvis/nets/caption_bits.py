"""The transformer that denoises a sentence written in analog bits while it looks at a picture.

Chen, Zhang & Hinton 2022, "Analog Bits" (arXiv 2208.04202): the bits of each word are a token, the
words attend to one another in both directions and to what an encoder sees in the picture; what the net last believed of
the bits is put beside them. Book: chapter 4, "Sentences as bits".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from huggingvis.core.protocols import Cond
from huggingvis.nets.attention import TransformerBlock
from huggingvis.nets.dit_blocks import sincos_positions
from huggingvis.nets.embeddings import TimeEmbedding


@dataclass(frozen=True)
class CaptionBitsConfig:
    """Sizes of a `CaptionBits`.

    Attributes:
        bits: of a word.
        words: of a sentence.
        seen: width of the picture's tokens.
        dim: width; a multiple of 4.
        depth: blocks.
        heads: attention heads.
        self_conditioned: whether it is told its last belief.
        clock_scale: what makes its clock run from 0 to 1000.
    """

    bits: int
    words: int
    seen: int
    dim: int = 192
    depth: int = 4
    heads: int = 4
    self_conditioned: bool = True
    clock_scale: float = 1.0


@final
class CaptionBits(nn.Module):
    """x [B, bits, words], clock [B], `tokens` [B, P, seen] of a square picture -> [B, bits, words].

    With self-conditioning `concat` [B, bits, words] is the last belief of x_0.
    """

    def __init__(self, config: CaptionBitsConfig):
        super().__init__()
        self.config = c = config
        self.enter = nn.Linear(c.bits * (2 if c.self_conditioned else 1), c.dim)
        self.place = nn.Parameter(0.02 * torch.randn(c.words, c.dim))
        self.time = TimeEmbedding(c.dim, c.dim, c.clock_scale)
        self.look = nn.Sequential(nn.LayerNorm(c.seen), nn.Linear(c.seen, c.dim))
        self.blocks = nn.ModuleList(TransformerBlock(c.dim, c.heads, c.dim, 2.0) for _ in range(c.depth))
        self.norm = nn.LayerNorm(c.dim)
        self.leave = nn.Linear(c.dim, c.bits)

    def forward(self, x: Tensor, clock: Tensor, cond: Cond) -> Tensor:
        told = torch.cat([x, cond["concat"]], 1) if self.config.self_conditioned else x  # [B, 1 or 2 bits, L]
        h = self.enter(told.transpose(1, 2)) + self.place + self.time(clock)[:, None]  # [B, L, D]
        seen = self.look(cond["tokens"])  # [B, P, D]
        side = math.isqrt(seen.shape[1])
        seen = seen + sincos_positions(side, side, self.config.dim, float(side), seen.device).to(seen.dtype)
        for block in self.blocks:
            h = block(h, seen)
        out: Tensor = self.leave(self.norm(h)).transpose(1, 2)
        return out
