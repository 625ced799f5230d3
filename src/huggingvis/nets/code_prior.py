r"""A causal transformer over a grid of codes, read row by row: p(c) = prod_i p(c_i | c_1 ... c_{i-1}).

The prior of VQ-VAE (van den Oord et al. 2017, arXiv 1711.00937, Sec. 3.3), there a PixelCNN, here self-attention under
a causal mask (Vaswani et al. 2017, arXiv 1706.03762, Sec. 3.2.3), as VQGAN has it (Esser et al. 2021, arXiv
2012.09841, Sec. 3.2). A position knows its row and its column, the condition's `vector` if the net takes one, and looks
at its `tokens` if the net takes those.
Book: chapter 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from huggingvis.core.errors import UsageError
from huggingvis.core.protocols import Cond
from huggingvis.nets.attention import Attention, GatedFeedForward, KeyValues

Past = list[KeyValues]  # of each block


@dataclass(frozen=True)
class CodePriorConfig:
    """Sizes of a `CodePrior`.

    Attributes:
        size: number of codes.
        height: rows of the grid.
        width: columns of the grid.
        dim: channels.
        depth: blocks.
        heads: attention heads.
        vector_dim: numbers of the condition's `vector`, one for all positions or one for each; 0 for none.
        dropout: of embeddings and of what each block adds.
        tokens_dim: width of the condition's `tokens`, 0 for none.
    """

    size: int
    height: int
    width: int
    dim: int = 192
    depth: int = 4
    heads: int = 6
    vector_dim: int = 0
    dropout: float = 0.0
    tokens_dim: int = 0

    def __post_init__(self) -> None:
        if self.dim % self.heads:
            raise UsageError(
                f"A transformer's width is a multiple of its heads, found {self.dim} and {self.heads}. Change one."
            )


@final
class CausalBlock(nn.Module):
    """x + attention(norm x) to itself and what came before, x + attention(norm x) to `tokens` if it takes some,
    x + feed-forward(norm x). [B, L, D] -> the same.
    """

    def __init__(self, dim: int, heads: int, dropout: float = 0.0, tokens_dim: int = 0):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim), Attention(dim, heads)
        self.norm3, self.cross = None, None
        if tokens_dim:
            self.norm3, self.cross = nn.LayerNorm(dim), Attention(dim, heads, tokens_dim)
        self.norm2, self.ff = nn.LayerNorm(dim), GatedFeedForward(dim, 8 / 3)  # the gate costs a third
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, cond: Cond) -> Tensor:
        order = torch.arange(x.shape[1], device=x.device)
        x = x + self.dropout(self.attn(self.norm1(x), mask=(order[:, None] >= order)[None]))
        return self._rest(x, cond)

    def grow(self, x: Tensor, past: KeyValues | None, cond: Cond) -> tuple[Tensor, KeyValues]:
        """`forward` of one more position x [B, 1, D]."""
        out, past = self.attn.grow(self.norm1(x), past)
        return self._rest(x + self.dropout(out), cond), past

    def _rest(self, x: Tensor, cond: Cond) -> Tensor:
        if self.norm3 is not None and self.cross is not None:
            tokens = cond["tokens"].to(x.dtype)  # [B, M, C]
            x = x + self.dropout(self.cross(self.norm3(x), tokens, cond.get("tokens_mask")))
        return x + self.dropout(self.ff(self.norm2(x)))


@final
class CodePrior(nn.Module):
    """codes int64 [B, h, w], condition -> logits [B, h w, size] of each code given those before it."""

    def __init__(self, config: CodePriorConfig):
        super().__init__()
        self.config = c = config
        self.codes = nn.Embedding(c.size, c.dim)
        self.start = nn.Parameter(torch.zeros(c.dim))
        self.rows = nn.Parameter(0.02 * torch.randn(c.height, c.dim))
        self.columns = nn.Parameter(0.02 * torch.randn(c.width, c.dim))
        self.vector = nn.Linear(c.vector_dim, c.dim, bias=False) if c.vector_dim else None
        self.dropout = nn.Dropout(c.dropout)
        self.blocks = nn.ModuleList(CausalBlock(c.dim, c.heads, c.dropout, c.tokens_dim) for _ in range(c.depth))
        self.norm = nn.LayerNorm(c.dim)
        self.out = nn.Linear(c.dim, c.size)
        nn.init.normal_(self.codes.weight, std=0.02)
        for zero in (self.out.weight, self.out.bias):  # every code is equally likely at first
            nn.init.zeros_(zero)

    def forward(self, codes: Tensor, cond: Cond | None = None) -> Tensor:
        before = self.codes(codes.flatten(1)[:, :-1])  # [B, L - 1, D]
        start = self.start.to(before.dtype).expand(len(codes), 1, -1)
        x = torch.cat([start, before], dim=1) + self._places().to(before.dtype)  # [B, L, D]
        x = self.dropout(x + self._told(cond, x))
        for block in self.blocks:
            x = block(x, cond or {})
        return self.out(self.norm(x))

    def grow(self, last: Tensor, past: Past, index: int, cond: Cond | None = None) -> tuple[Tensor, Past]:
        """Logits [B, size] of code number `index` after code `last` [B], which is not looked at where `index` is 0.

        `past`: what the call for the code before gave, at first empty.
        """
        here = self.codes(last) if index else self.start.expand(len(last), -1)  # [B, D]
        x = here[:, None] + self._places()[index].to(here.dtype)
        x = self.dropout(x + self._told(cond, x, index))
        after: Past = []
        for i, block in enumerate(self.blocks):
            assert isinstance(block, CausalBlock)
            x, seen = block.grow(x, past[i] if past else None, cond or {})
            after.append(seen)
        return self.out(self.norm(x))[:, 0], after

    def _places(self) -> Tensor:
        """[h w, D]."""
        return (self.rows[:, None] + self.columns).flatten(0, 1)

    def _told(self, cond: Cond | None, x: Tensor, index: int | None = None) -> Tensor:
        """[B, 1, D], or [B, L, D] if each position is told something else; of one position where an `index` is given.

        Nothing said is all zeros.
        """
        if self.vector is None or cond is None or "vector" not in cond:
            return torch.zeros_like(x[:, :1])
        vector = cond["vector"].to(self.vector.weight.dtype)  # [B, V] or [B, L, V]
        if vector.ndim == 2:
            return self.vector(vector)[:, None]
        return self.vector(vector if index is None else vector[:, index : index + 1])
