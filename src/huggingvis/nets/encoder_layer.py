"""One layer of the transformers that read prompts and pictures, and the activations their authors chose.

Pre-norm layer: Vaswani et al. 2017 (arXiv 1706.03762) with the order of Xiong et al. 2020 (arXiv 2002.04745).
GELU: Hendrycks & Gimpel 2016 (arXiv 1606.08415), whose section 2 gives the exact function and both approximations.
Book: chapter 5, "Reading the prompt".
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.core.errors import UsageError
from huggingvis.nets.attention import Attention

Activation = Callable[[Tensor], Tensor]


def gelu(x: Tensor) -> Tensor:
    """x P(N(0, 1) <= x)."""
    return F.gelu(x)


def gelu_tanh(x: Tensor) -> Tensor:
    """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2."""
    return F.gelu(x, approximate="tanh")


def quick_gelu(x: Tensor) -> Tensor:
    """x sigmoid(1.702 x)."""
    return x * torch.sigmoid(1.702 * x)


@final
class EncoderLayer(nn.Module):
    """x + attention(norm x); x + W_2 activation(W_1 norm x). x [B, L, D], mask as `Attention` takes it."""

    def __init__(
        self,
        dim: int,
        heads: int,
        hidden: int,
        activation: Activation,
        *,
        eps: float = 1e-5,
        inner: int | None = None,
        qkv_bias: bool = True,
    ):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim, eps), Attention(dim, heads, inner=inner, qkv_bias=qkv_bias)
        self.norm2 = nn.LayerNorm(dim, eps)
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.activation = activation

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.attn(self.norm1(x), mask=mask)
        return x + self.fc2(self.activation(self.fc1(self.norm2(x))))


def check_length(ids: Tensor, most: int) -> int:
    """The length of texts ids [B, L]. Raises `UsageError` where it is more than a tower reads."""
    length = ids.shape[1]
    if length > most:
        raise UsageError(f"This text tower reads {most} tokens, found {length}: cut the text.")
    return length


def run(layers: nn.ModuleList, x: Tensor, count: int | None, mask: Tensor | None = None) -> Tensor:
    """x after the first `count` layers, all when None. Raises `UsageError` where there are not so many."""
    count = len(layers) if count is None else count
    if not 0 <= count <= len(layers):
        raise UsageError(f"This tower has {len(layers)} layers, so its states after {count} of them do not exist.")
    for layer in islice(layers, count):
        x = layer(x, mask)
    return x
