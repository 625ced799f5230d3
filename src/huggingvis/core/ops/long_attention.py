r"""Attention of long sequences in bfloat16 on CPUs, some rows of the map at a time.

    o_i = (sum_j w_ij v_j) / (sum_j w_ij),    w_ij = exp(q_i k_j / sqrt(d) - m_i)                 any m_i gives the same

PyTorch's fused kernel multiplies small tiles, far below the rate of large products. Rows of the map are independent
(Rabe & Staats 2021, arXiv 2112.05682), so that some hundred of them at a time fit into caches as one product, and the
division may come last (Milakov & Gimelshein 2018, arXiv 1805.02867). With two threads and avx512_bf16 a U-Net step of
Stable Diffusion 1.5 takes 0.90 of what it takes with the fused kernel.

The map is rounded to the 8 bits of bfloat16, by up to 1/16 at scores of 16. So m_i should be near the row's largest
score: then those that weigh much are near 0, where rounding is fine, and those that are far from 0 weigh nothing.
Book: chapter 10, "Speed".
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from huggingvis.core.machine import instructions

LONG = 512
"""As many queries, and keys, as it takes to be worth it."""
MAP_AT_A_TIME = 1 << 21
"""Numbers of the map that are in memory at once: 4 MiB."""
EVERY = 16
"""One key of so many is asked for m_i."""
PADDED = 16
"""Products are fast where their sides are multiples of it."""


def suits_rows(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether `by_rows` is faster than the fused kernel, as measured on CPUs that multiply bfloat16 without AMX."""
    if q.device.type != "cpu" or q.dtype is not torch.bfloat16 or min(q.shape[-2], k.shape[-2]) < LONG:
        return False
    learns = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    alike = q.ndim == 4 and k.shape == v.shape == (*q.shape[:2], k.shape[-2], q.shape[-1])
    return alike and not learns and not torch.compiler.is_compiling() and _measured()


@cache
def _measured() -> bool:
    """Whether this is a CPU as it was measured on."""
    known = instructions()
    return "avx512_bf16" in known and "amx_bf16" not in known


def by_rows(q: Tensor, k: Tensor, v: Tensor) -> Tensor | None:
    """Attention of q [B, h, Lq, d] to all k and v [B, h, Lk, d]; None where a row's scores overflow.

    m_i is the largest score of every `EVERY`-th key, so that the sum of weights is about 1 or more. It rides in the
    product: q has a column of -m_i sqrt(d) where k has ones. So do the sums of the weights: v has a column of ones.
    """
    (batch, heads, _, d), keys = q.shape, k.shape[2]
    scale = d**-0.5
    q, k, v = (_with_ones(x) for x in (q, k, v))  # [B h, L, w]
    out = torch.empty_like(q)
    at_once = max(1, MAP_AT_A_TIME // keys)
    weights = q.new_empty(min(at_once, q.shape[1]), keys)  # [n, Lk]
    for queries, columns, values, sums in zip(q, k.transpose(1, 2), v, out, strict=True):  # [Lq, w], [w, Lk], [Lk, w]
        sampled = columns[:d, ::EVERY].contiguous()  # [d, Lk / EVERY]
        for some, into in zip(queries.split(at_once), sums.split(at_once), strict=True):  # [n, w]
            part = weights[: len(some)]
            some[:, d] = -(some[:, :d] @ sampled).amax(1)
            torch.addmm(part, some, columns, beta=0, alpha=scale, out=part)
            torch.mm(part.exp_(), values, out=into)
    total = out[..., d : d + 1]
    if not bool(torch.isfinite(total).all()):
        return None
    return (out[..., :d] / total).unflatten(0, (batch, heads))


def _with_ones(x: Tensor) -> Tensor:
    """[B, h, L, d] as [B h, L, w]: a one after the d numbers, and zeros up to a width that is fast."""
    d = x.shape[-1]
    out = x.new_zeros(x.shape[0] * x.shape[1], x.shape[2], -(-(d + 1) // PADDED) * PADDED)
    out[..., :d] = x.flatten(0, 1)
    out[..., d] = 1.0
    return out
