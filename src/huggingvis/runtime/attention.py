"""Attention on CPUs in bfloat16, where PyTorch's fused kernel is slow: for short sequences in training, and for long
ones without gradients.

    attention(q, k, v) = softmax(q k^T / sqrt(d)) v          (Vaswani et al. 2017, arXiv 1706.03762, eq. 1)

Short: the fused kernel wins by never storing the map of L x L; for a few hundred tokens there is nothing to save, and
two matrix products and a softmax have the faster backward pass. Forward and backward together, 4 heads of 48, one x86
thread with PyTorch 2.13: 4.0 times as fast as the fused kernel at L = 64 and 1.6 times at 256, but 0.84 times at 1024.

Long: the fused kernel multiplies small tiles, far below the rate of large products. Some hundred rows of the map at a
time, and no more passes over them than one, take 0.6 of its time at L = 4096 (2 x 8 heads of 40, two threads with
AVX-512) and 0.7 at 1024. Book: chapter 10, "Speed".
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from huggingvis.core.ops import replace
from huggingvis.core.ops.attention import masked_softmax

LONGEST_MAP = 256 * 256
"""Largest Lq x Lk for which `short_attention` stores the map."""
LONG = 512
"""From so many queries and keys on `long_attention` goes by rows."""
MAP_AT_A_TIME = 1 << 21
"""Numbers of the map that `long_attention` holds: 4 MiB, which caches do."""
EVERY = 16
"""Of the keys, so many apart, those that tell about how large a row's scores are."""
PADDED = 16
"""Products are fast where both sides are multiples of it."""


def matmul_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """As `core.ops.attention`: products in the dtype of q, softmax in float32 or wider; blind rows give 0."""
    scores = (q @ k.transpose(-1, -2)).to(torch.promote_types(q.dtype, torch.float32))  # [B, h, Lq, Lk]
    return masked_softmax(scores * q.shape[-1] ** -0.5, mask).to(v.dtype) @ v


def short_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """`matmul_attention` where the map is small, the fused kernel where it is not."""
    if q.shape[-2] * k.shape[-2] <= LONGEST_MAP:
        return matmul_attention(q, k, v, mask)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def long_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """As `core.ops.attention`; `by_rows` where that is faster: in bfloat16 on a CPU, for long sequences all of which is
    seen, without gradients. The fused kernel where it is not, and where a row has scores beyond what `by_rows` holds.
    """
    if _suits_rows(q, k, v, mask):
        out = by_rows(q, k, v)
        if out is not None:
            return out
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def by_rows(q: Tensor, k: Tensor, v: Tensor) -> Tensor | None:
    r"""Attention of all queries to all keys, some rows of the map at a time; None where numbers overflow.

        w_ij = exp(q_i k_j / sqrt(d) - m_i),    o_i = (sum_j w_ij v_j) / (sum_j w_ij)          any m_i gives the same

    The map is in the dtype of q. bfloat16 has 8 bits, so a score of 16 is wrong by up to 1/16; but taken from a number
    near the row's largest, before it is rounded, a score is small where its weight counts. m_i is the largest of every
    `EVERY`-th key, so that the sum is no less than about 1. It rides in the product, as a column of q beside ones in k,
    and so does the sum of the weights, as ones in v.
    """
    (batch, heads, _, d), keys = q.shape, k.shape[2]
    scale = d**-0.5
    q, k, v = (_with_ones(x) for x in (q, k, v))  # [B h, L, w]
    q[..., d] = -torch.bmm(q[..., :d], k[:, ::EVERY, :d].transpose(1, 2)).amax(2)
    out = torch.empty_like(q)
    at_once = max(1, MAP_AT_A_TIME // keys)
    weights = q.new_empty(min(at_once, q.shape[1]), keys)
    for rows, columns, values, sums in zip(q, k.transpose(1, 2), v, out, strict=True):
        for some, into in zip(rows.split(at_once), sums.split(at_once), strict=True):
            part = weights[: len(some)]
            torch.addmm(part, some, columns, beta=0, alpha=scale, out=part)
            torch.mm(part.exp_(), values, out=into)
    total = out[..., d : d + 1]
    if not bool(torch.isfinite(total).all()):
        return None
    return (out[..., :d] / total).unflatten(0, (batch, heads))


def _with_ones(x: Tensor) -> Tensor:
    """[B, h, L, d] as [B h, L, w]: a one after the d numbers, and zeros to a width that products like."""
    d = x.shape[-1]
    out = x.new_zeros(x.shape[0] * x.shape[1], x.shape[2], -(-(d + 1) // PADDED) * PADDED)
    out[..., :d] = x.flatten(0, 1)
    out[..., d] = 1.0
    return out


def _suits_rows(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> bool:
    plain = mask is None and q.shape[-1] == v.shape[-1] and min(q.shape[-2], k.shape[-2]) >= LONG
    needs_grad = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    cpu = q.device.type == "cpu" and q.dtype is torch.bfloat16
    return plain and cpu and not needs_grad and not torch.compiler.is_compiling()


def for_training(device: torch.device, precision: torch.dtype) -> AbstractContextManager[None]:
    """A block in which nets are trained by the attention that is fastest: `short_attention` in bfloat16 on a CPU."""
    short = device.type == "cpu" and precision is torch.bfloat16
    return replace("attention", short_attention) if short else nullcontext()


def for_drawing(device: torch.device) -> AbstractContextManager[None]:
    """A block in which nets draw by the attention that is fastest: `long_attention` on a CPU.

    Processors with AMX have a fused kernel for bfloat16 that was not measured: it is left to them.
    """
    by_tiles = torch.cpu._is_amx_tile_supported()
    return replace("attention", long_attention) if device.type == "cpu" and not by_tiles else nullcontext()
