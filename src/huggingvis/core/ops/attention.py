"""Scaled dot-product attention (Vaswani et al. 2017, arXiv 1706.03762, eq. 1), the one call every net makes.

attention(q, k, v) = softmax(q k^T / sqrt(d)) v
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from huggingvis.core.ops.long_attention import by_rows, suits_rows
from huggingvis.core.ops.registry import implementation


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """q [B, h, Lq, d], k and v [B, h, Lk, d], mask broadcastable to [B, h, Lq, Lk].

    The mask is bool (True: may look), or numbers added to the scores (-inf: may not look).
    """
    return implementation("attention", usual)(q, k, v, mask)


def usual(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """PyTorch's fused kernel, or `by_rows` where that is faster."""
    if mask is None and suits_rows(q, k, v):
        out = by_rows(q, k, v)
        if out is not None:
            return out
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def attention_with_probs(q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
    """The attention map itself [B, h, Lq, Lk], computed in the open: the reference, and what `ProbsTap` needs.

    Rows sum to 1; a row that may look nowhere is 0, as in the fused kernel.
    """
    return masked_softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, mask)  # [B, h, Lq, Lk]


def masked_softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax of each row of `scores` over what the mask of `attention` lets it see; 0 where that is nothing."""
    if mask is None:
        return scores.softmax(dim=-1)
    seen = mask
    if mask.dtype is not torch.bool:
        scores, seen = scores + mask, mask > float("-inf")
    return scores.masked_fill(~seen, float("-inf")).softmax(dim=-1).masked_fill(~seen, 0.0)
