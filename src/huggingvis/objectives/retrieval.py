"""Conditions of a denoiser that looks at the neighbours of what it is to make.

A. Blattmann, R. Rombach, K. Oktay, J. Müller, B. Ommer, "Retrieval-Augmented Diffusion Models", 2022, arXiv:2204.11824,
section 3.2: the codes of the k nearest neighbours of x_0 are tokens of cross-attention, without places, so their order
does not count. A token of zeros stands before them, which every query finds alike: without neighbours, whether k is 0
or they are left out for guidance (section 3.3), it is all there is, and the model is unconditional.
Book: chapter 4, "Models with a memory".
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from huggingvis.core.protocols import Batch, Cond


def tokens_of(codes: Tensor) -> Tensor:
    """Codes of neighbours [B, k, D] -> tokens [B, 1 + k, D]."""
    return F.pad(codes, (0, 0, 1, 0))


def neighbours(batch: Batch) -> Cond:
    """The condition of a batch with `neighbours` [B, k, D] and `told` [B] bool, whether each may look at them."""
    tokens = tokens_of(batch["neighbours"])  # [B, 1 + k, D]
    nothing, told = torch.zeros_like(tokens[..., 0], dtype=torch.bool), batch["told"][:, None]
    nothing[:, 0] = True
    return {"tokens": tokens, "tokens_mask": nothing | told}  # [B, 1 + k]
