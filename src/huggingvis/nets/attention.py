"""Multi-head attention with taps and an adapter port, and the transformer block built on it.

Vaswani et al. 2017 (arXiv 1706.03762), eq. 1; pre-norm block with self-attention, cross-attention and a gated
feed-forward (Shazeer 2020, arXiv 2002.05202) as in latent diffusion (Rombach et al. 2022, arXiv 2112.10752).
Book: chapter 5, "Where text meets picture".
"""

from __future__ import annotations

from typing import final

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.core import ops
from huggingvis.core.taps import BesideTap, OutputTap, ProbsTap, QKVTap, Tappable
from huggingvis.core.text_memory import Remembers

KeyValues = tuple[Tensor, Tensor]  # [B, heads, M, d] each


@final
class Attention(Tappable, Remembers):
    """Attention from x to itself, or to `context` when `context_dim` is given. dims: x [B, L, D], context [B, M, C].

    `scaled` False: the scores are q k and not q k / sqrt(d). Queries are made sqrt(d) longer for it, also for taps.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        context_dim: int | None = None,
        *,
        inner: int | None = None,
        qkv_bias: bool = False,
        out_bias: bool = True,
        scaled: bool = True,
    ):
        super().__init__()
        inner = inner or dim
        if inner % heads:
            raise ValueError(f"attention width {inner} is not a multiple of {heads} heads")
        self.heads, self.cross = heads, context_dim is not None
        source = dim if context_dim is None else context_dim
        self.to_q = nn.Linear(dim, inner, bias=qkv_bias)
        self.to_k = nn.Linear(source, inner, bias=qkv_bias)
        self.to_v = nn.Linear(source, inner, bias=qkv_bias)
        self.to_out = nn.Linear(inner, dim, bias=out_bias)
        self.stretch = 1.0 if scaled else (inner / heads) ** 0.5

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """`mask` bool, True where to look: [B, M] for all of x alike, or [B or 1, L, M].

        Or [B or 1, heads, L, M], bool or numbers to be added to the scores, with -inf where not to look.
        """
        look = mask
        if mask is not None and mask.ndim < 4:
            look = mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]
        return self._attend(*self._heads(x, x if context is None else context), look)

    def grow(self, x: Tensor, past: KeyValues | None) -> tuple[Tensor, KeyValues]:
        """Self-attention of one more position x [B, 1, D] to `past`, what earlier calls gave, and to itself."""
        q, k, v = self._heads(x, x)
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        return self._attend(q, k, v, None), (k, v)

    def _heads(self, x: Tensor, source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q = rearrange(self.to_q(x), "b l (h d) -> b h l d", h=self.heads)
        if self.memory is None or self.taps:  # taps may write into keys and values
            k, v = self.to_k(source), self.to_v(source)
        else:
            k, v = self.memory.project(self.to_k, source), self.memory.project(self.to_v, source)
        k, v = (rearrange(each, "b m (h d) -> b h m d", h=self.heads) for each in (k, v))
        return q if self.stretch == 1.0 else q * self.stretch, k, v

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, look: Tensor | None) -> Tensor:
        if self.taps:
            return self._tapped(q, k, v, look)
        out = ops.attention(q, k, v, look)  # [B, h, L, d]
        return self.to_out(rearrange(out, "b h l d -> b l (h d)"))

    def _tapped(self, q: Tensor, k: Tensor, v: Tensor, look: Tensor | None) -> Tensor:
        for site, tap in self.taps:
            if isinstance(tap, QKVTap):
                q, k, v = tap.qkv(site, q, k, v)
        on_probs = [(site, tap) for site, tap in self.taps if isinstance(tap, ProbsTap)]
        if on_probs:
            probs = ops.attention_with_probs(q, k, look)  # [B, h, L, M]
            for site, tap in on_probs:
                probs = tap.probs(site, probs)
            out = probs @ v
        else:
            out = ops.attention(q, k, v, look)
        for site, tap in self.taps:
            if isinstance(tap, BesideTap):
                out = tap.beside(site, q, out)
        out = rearrange(out, "b h l d -> b l (h d)")
        for site, tap in self.taps:
            if isinstance(tap, OutputTap):
                out = tap.output(site, out)
        return self.to_out(out)


@final
class GatedFeedForward(nn.Module):
    """GEGLU: (x W_a) * gelu(x W_b), then W_out."""

    def __init__(self, dim: int, mult: float = 4.0):
        super().__init__()
        inner = int(dim * mult)
        self.fc1 = nn.Linear(dim, 2 * inner)
        self.fc2 = nn.Linear(inner, dim)

    def forward(self, x: Tensor) -> Tensor:
        h, gate = self.fc1(x).chunk(2, dim=-1)  # [B, L, inner] each
        return self.fc2(h * F.gelu(gate))


@final
class TransformerBlock(nn.Module):
    """x + self(norm x); x + cross(norm x, tokens); x + feed-forward(norm x)."""

    def __init__(self, dim: int, heads: int, context_dim: int | None, mult: float = 4.0):
        super().__init__()
        self.norm1, self.attn1 = nn.LayerNorm(dim), Attention(dim, heads)
        if context_dim is not None:
            self.norm2, self.attn2 = nn.LayerNorm(dim), Attention(dim, heads, context_dim)
        self.norm3, self.ff = nn.LayerNorm(dim), GatedFeedForward(dim, mult)
        self.has_context = context_dim is not None

    def forward(self, x: Tensor, tokens: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        if self.has_context:
            x = x + self.attn2(self.norm2(x), tokens, mask)
        return x + self.ff(self.norm3(x))
