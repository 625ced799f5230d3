"""The text tower of the first latent diffusion model for text, trained together with its U-Net.

Rombach et al. 2022 (arXiv 2112.10752), section 4.3.1 and appendix E.2.1: it has BERT's vocabulary and looks both ways,
but is a pre-norm transformer whose heads together are narrower than its states. Every text has 77 tokens, and the
padding is read like the rest. Book: chapter 5, "Reading the prompt".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from huggingvis.nets.encoder_layer import Activation, EncoderLayer, check_length, gelu, run


@dataclass(frozen=True)
class LDMBertConfig:
    """Sizes of an `LDMBert`; the defaults are those of the published model.

    Attributes:
        vocabulary: number of token ids.
        length: most tokens it reads.
        dim: width.
        depth: layers.
        heads: attention heads.
        head_dim: width of each, free of `dim`.
        hidden: width of the feed-forward part.
        activation: its nonlinearity.
    """

    vocabulary: int = 30522
    length: int = 77
    dim: int = 1280
    depth: int = 32
    heads: int = 8
    head_dim: int = 64
    hidden: int = 5120
    activation: Activation = gelu


@final
class LDMBert(nn.Module):
    """ids [B, L] int64 -> tokens [B, L, D]."""

    def __init__(self, config: LDMBertConfig):
        super().__init__()
        self.config = c = config
        self.token = nn.Embedding(c.vocabulary, c.dim)
        self.position = nn.Parameter(torch.randn(c.length, c.dim).mul_(0.02))
        inner = c.heads * c.head_dim
        self.layers = nn.ModuleList(
            EncoderLayer(c.dim, c.heads, c.hidden, c.activation, inner=inner, qkv_bias=False) for _ in range(c.depth)
        )
        self.norm = nn.LayerNorm(c.dim)

    def forward(self, ids: Tensor) -> Tensor:
        length = check_length(ids, self.config.length)
        return self.norm(run(self.layers, self.token(ids) + self.position[:length], None))  # [B, L, D]
