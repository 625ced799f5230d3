"""From what an image tower saw to a few tokens that a U-Net can attend to as it does to words.

Ye et al. 2023, "IP-Adapter" (arXiv 2308.06721), section 3.2.1, in its three published forms: one linear layer for the
whole picture's embedding; one small network for each of the tower's patches ("full"); and learned queries that ask the
patches several times ("plus"), the perceiver of Jaegle et al. 2021 (arXiv 2103.03206) as in Flamingo (Alayrac et al.
2022, arXiv 2204.14198). Book: chapter 6, "A picture as a prompt".
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from huggingvis.nets.attention import Attention


@final
class EmbeddingTokens(nn.Module):
    """Embedding of a whole picture [B, E] -> `count` tokens [B, N, D]."""

    def __init__(self, embedding: int, dim: int, count: int = 4):
        super().__init__()
        self.count = count
        self.proj = nn.Linear(embedding, count * dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, embedding: Tensor) -> Tensor:
        return self.norm(self.proj(embedding).unflatten(-1, (self.count, -1)))


@final
class PatchTokens(nn.Module):
    """A token for each patch: [B, S, E] -> [B, S, D]."""

    def __init__(self, embedding: int, dim: int, hidden: int):
        super().__init__()
        self.fc1, self.fc2, self.norm = nn.Linear(embedding, hidden), nn.Linear(hidden, dim), nn.LayerNorm(dim)

    def forward(self, patches: Tensor) -> Tensor:
        return self.norm(self.fc2(nn.functional.gelu(self.fc1(patches))))


class _Asking(nn.Module):
    """Queries ask patches and each other, then think: q + attention(norm q, [norm x, norm q]); q + mlp(norm q)."""

    def __init__(self, dim: int, heads: int, inner: int, hidden: int):
        super().__init__()
        self.norm_x, self.norm_q = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = Attention(dim, heads, dim, inner=inner, out_bias=False)
        self.norm = nn.LayerNorm(dim)
        self.fc1, self.fc2 = nn.Linear(dim, hidden, bias=False), nn.Linear(hidden, dim, bias=False)

    def forward(self, q: Tensor, x: Tensor) -> Tensor:
        own = self.norm_q(q)
        q = q + self.attn(own, torch.cat([self.norm_x(x), own], dim=1))
        return q + self.fc2(nn.functional.gelu(self.fc1(self.norm(q))))


@final
class Resampler(nn.Module):
    """Patches [B, S, E] -> `count` tokens [B, N, D], asked for by as many learned queries in `depth` blocks.

    `width` of the queries; `heads` of 64; `hidden` width of the blocks' networks.
    """

    def __init__(
        self, embedding: int, dim: int, *, count: int = 16, width: int = 768, depth: int = 4, heads: int = 12,
        hidden: int = 3072,
    ):  # fmt: skip
        super().__init__()
        self.queries = nn.Parameter(torch.randn(1, count, width) / width**0.5)
        self.proj_in = nn.Linear(embedding, width)
        self.blocks = nn.ModuleList(_Asking(width, heads, 64 * heads, hidden) for _ in range(depth))
        self.proj_out = nn.Linear(width, dim)
        self.norm_out = nn.LayerNorm(dim)

    def forward(self, patches: Tensor) -> Tensor:
        x = self.proj_in(patches)  # [B, S, width]
        q = self.queries.expand(len(x), -1, -1)
        for block in self.blocks:
            q = block(q, x)
        return self.norm_out(self.proj_out(q))  # [B, N, D]
