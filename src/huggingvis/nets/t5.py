"""T5's encoder, which reads the prompts of PixArt, Stable Diffusion 3 and FLUX.

Raffel et al. 2020 (arXiv 1910.10683), section 2.1, in version 1.1: gated feed-forward (Shazeer 2020, arXiv
2002.05202), norms by the root mean square alone (Zhang & Sennrich 2019, arXiv 1910.07467), no bias anywhere. There are
no positions in the tokens; every layer adds to its scores q k, which are not scaled, one learned number for each head
and each class of distance from query to key:

    attention(q, k, v)_i = sum_j softmax_j(q_i k_j + b[bucket(j - i)]) v_j

Book: chapter 5, "Reading the prompt".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from einops import rearrange
from torch import Tensor, nn

from huggingvis.nets.attention import Attention
from huggingvis.nets.encoder_layer import gelu_tanh

SYSTEM = {
    "name": "T5",
    "chapter": 5,
    "paper": "1910.10683",
    "files": [
        "codecs/t5_tokens.py",
        "checkpoints/text_towers_t5.py",
        "systems/t5_reader.py",
    ],
    "built": None,
    "exact": [
        "tests/interop/test_other_towers.py::test_t5",
        "tests/interop/test_other_towers.py::test_buckets_are_the_reference_s",
        "tests/interop/test_tokens.py::test_t5_ids_equal_transformers_and_its_tokenizer_json_is_read",
    ],
    "trained": None,
    "explained": None,
    "usable": None,
}


@dataclass(frozen=True)
class T5Config:
    """Sizes of a `T5Encoder`; the defaults are T5 v1.1 XXL's.

    Attributes:
        vocabulary: number of token ids.
        dim: width.
        depth: layers.
        heads: attention heads.
        head_dim: width of each, free of `dim`.
        hidden: width of the feed-forward part.
        buckets: classes of distances, for both directions together.
        farthest: from this distance on all are of one class.
        eps: of the norms.
    """

    vocabulary: int = 32128
    dim: int = 4096
    depth: int = 24
    heads: int = 64
    head_dim: int = 64
    hidden: int = 10240
    buckets: int = 32
    farthest: int = 128
    eps: float = 1e-6


def bucket(distance: Tensor, buckets: int, farthest: int) -> Tensor:
    """Class of each distance j - i, int64: the first half for keys before the query, the second for those after.

    In each half the first distances have a class of their own; the others share the rest by their logarithm.
    """
    half = buckets // 2
    exact = half // 2
    far = distance.abs()
    growth = torch.log(far.clamp(min=exact).float() / exact) / math.log(farthest / exact)  # 0 at exact, 1 at farthest
    shared = (exact + (growth * (half - exact)).long()).clamp(max=half - 1)
    return torch.where(far < exact, far, shared) + half * (distance > 0)


@final
class T5Layer(nn.Module):
    """x + attention(norm x); x + W_out (gelu(W_gate norm x) * W_in norm x)."""

    def __init__(self, c: T5Config):
        super().__init__()
        self.norm1 = nn.RMSNorm(c.dim, c.eps)
        self.attn = Attention(c.dim, c.heads, inner=c.heads * c.head_dim, out_bias=False, scaled=False)
        self.norm2 = nn.RMSNorm(c.dim, c.eps)
        self.gate, self.fc1 = nn.Linear(c.dim, c.hidden, bias=False), nn.Linear(c.dim, c.hidden, bias=False)
        self.fc2 = nn.Linear(c.hidden, c.dim, bias=False)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x), mask=bias)
        h = self.norm2(x)
        return x + self.fc2(gelu_tanh(self.gate(h)) * self.fc1(h))


@final
class T5Encoder(nn.Module):
    """ids [B, L] int64, mask [B, L] bool (True: a token of the text; None: all) -> tokens [B, L, D].

    What stands at masked positions means nothing. In float16 the largest of these nets overflow: use bfloat16.
    """

    def __init__(self, config: T5Config):
        super().__init__()
        self.config = c = config
        self.token = nn.Embedding(c.vocabulary, c.dim)
        self.relative = nn.Embedding(c.buckets, c.heads)
        self.layers = nn.ModuleList(T5Layer(c) for _ in range(c.depth))
        self.norm = nn.RMSNorm(c.dim, c.eps)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        x, bias = self.token(ids), self._bias(ids.shape[1])  # [B, L, D], [1, heads, L, L]
        if mask is not None:
            bias = bias.masked_fill(~mask[:, None, None, :], float("-inf"))  # [B, heads, L, L]
        for layer in self.layers:
            x = layer(x, bias)
        return self.norm(x)

    def _bias(self, length: int) -> Tensor:
        at = torch.arange(length, device=self.relative.weight.device)
        classes = bucket(at[None, :] - at[:, None], self.config.buckets, self.config.farthest)  # [L, L]: key - query
        return rearrange(self.relative(classes), "i j h -> 1 h i j")
