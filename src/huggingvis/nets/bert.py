"""BERT: an encoder that looks both ways, with a pooled state for the whole text.

Devlin et al. 2018 (arXiv 1810.04805), section 3. Unlike later towers it norms after each addition, as Vaswani et al.
2017 (arXiv 1706.03762) did, and knows two kinds of tokens, of a first and of a second sentence. Book: chapter 5,
"Reading the prompt".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from huggingvis.nets.attention import Attention
from huggingvis.nets.encoder_layer import Activation, check_length, gelu

SYSTEM = {
    "name": "BERT",
    "chapter": 5,
    "paper": "1810.04805",
    "files": [
        "codecs/bert_tokens.py",
        "checkpoints/text_towers_bert.py",
    ],
    "built": None,
    "exact": [
        "tests/interop/test_other_towers.py::test_bert",
        "tests/interop/test_other_towers.py::test_bert_under_its_old_names",
        "tests/interop/test_tokens.py::test_bert_ids_equal_transformers",
    ],
    "trained": None,
    "explained": None,
    "usable": None,
}


@dataclass(frozen=True)
class BERTConfig:
    """Sizes of a `BERT`; the defaults are BERT base's.

    Attributes:
        vocabulary: number of token ids.
        length: most tokens it reads.
        kinds: of tokens: first sentence, second.
        dim: width.
        depth: layers.
        heads: attention heads.
        hidden: width of the feed-forward part.
        activation: its nonlinearity.
        eps: of the layer norms.
    """

    vocabulary: int = 30522
    length: int = 512
    kinds: int = 2
    dim: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3072
    activation: Activation = gelu
    eps: float = 1e-12


@final
class BERTLayer(nn.Module):
    """norm(x + attention x), then norm(x + W_2 gelu(W_1 x))."""

    def __init__(self, c: BERTConfig):
        super().__init__()
        self.attn, self.norm1 = Attention(c.dim, c.heads, qkv_bias=True), nn.LayerNorm(c.dim, c.eps)
        self.fc1, self.fc2 = nn.Linear(c.dim, c.hidden), nn.Linear(c.hidden, c.dim)
        self.norm2 = nn.LayerNorm(c.dim, c.eps)
        self.activation = c.activation

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = self.norm1(x + self.attn(x, mask=mask))
        return self.norm2(x + self.fc2(self.activation(self.fc1(x))))


@final
class BERT(nn.Module):
    """ids [B, L] int64, mask [B, L] bool (True: a token of the text), kinds [B, L] -> tokens [B, L, D], pooled [B, D].

    Without `mask` all tokens count, without `kinds` all are of the first kind. What stands at masked positions means
    nothing.
    """

    def __init__(self, config: BERTConfig):
        super().__init__()
        self.config = c = config
        self.token = nn.Embedding(c.vocabulary, c.dim)
        self.position = nn.Parameter(torch.randn(c.length, c.dim).mul_(0.02))
        self.kind = nn.Embedding(c.kinds, c.dim)
        self.norm = nn.LayerNorm(c.dim, c.eps)
        self.layers = nn.ModuleList(BERTLayer(c) for _ in range(c.depth))
        self.pool = nn.Linear(c.dim, c.dim)

    def forward(self, ids: Tensor, mask: Tensor | None = None, kinds: Tensor | None = None) -> tuple[Tensor, Tensor]:
        length = check_length(ids, self.config.length)
        kinds = torch.zeros_like(ids) if kinds is None else kinds
        x = self.norm(self.token(ids) + self.kind(kinds) + self.position[:length])  # [B, L, D]
        for layer in self.layers:
            x = layer(x, mask)
        return x, torch.tanh(self.pool(x[:, 0]))
