"""Attention in the open for short sequences on CPUs, where PyTorch's fused kernel is slow to differentiate.

    attention(q, k, v) = softmax(q k^T / sqrt(d)) v          (Vaswani et al. 2017, arXiv 1706.03762, eq. 1)

The fused kernel wins by never storing the map of L x L; for a few hundred tokens there is nothing to save, and two
matrix products and a softmax have the faster backward pass in bfloat16. Forward and backward together, 4 heads of 48,
one x86 thread with PyTorch 2.13: 4.0 times as fast as the fused kernel at L = 64 and 1.6 times at 256, but 0.84 times
at 1024; forward alone 1.2, 1.1 and 0.3 times. Book: chapter 10, "Speed".
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


def matmul_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """As `core.ops.attention`: products in the dtype of q, softmax in float32 or wider; blind rows give 0."""
    scores = (q @ k.transpose(-1, -2)).to(torch.promote_types(q.dtype, torch.float32))  # [B, h, Lq, Lk]
    return masked_softmax(scores * q.shape[-1] ** -0.5, mask).to(v.dtype) @ v


def short_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """`matmul_attention` where the map is small, the fused kernel where it is not."""
    if q.shape[-2] * k.shape[-2] <= LONGEST_MAP:
        return matmul_attention(q, k, v, mask)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def for_training(device: torch.device, precision: torch.dtype) -> AbstractContextManager[None]:
    """A block in which nets are trained by the attention that is fastest: `short_attention` in bfloat16 on a CPU."""
    short = device.type == "cpu" and precision is torch.bfloat16
    return replace("attention", short_attention) if short else nullcontext()
