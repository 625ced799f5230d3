"""CLIP's text tower: a causal transformer over 77 tokens, which reads the prompts of Stable Diffusion 1, 2 and XL.

Radford et al. 2021 (arXiv 2103.00020), section 2.4; the sizes H and bigG are of OpenCLIP (Cherti et al. 2022, arXiv
2212.07143). A diffusion model looks at the states of all tokens, after the last layer or the one before it; the state
at the end-of-text token, which under the causal mask is the only one to have seen the whole text, stands for all of
it. Book: chapter 5, "Reading the prompt".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from huggingvis.nets.encoder_layer import Activation, EncoderLayer, check_length, quick_gelu, run

SYSTEM = {
    "name": "CLIP",
    "chapter": 5,
    "paper": "2103.00020",
    "files": [
        "nets/clip_vision.py",
        "nets/encoder_layer.py",
        "codecs/clip_tokens.py",
        "checkpoints/text_towers_clip.py",
        "checkpoints/text_towers_clip_vision.py",
    ],
    "built": None,
    "exact": [
        "tests/interop/test_text_towers.py::test_clip_text",
        "tests/interop/test_text_towers.py::test_open_clip_layout_round_trips_and_is_the_same_net",
        "tests/interop/test_other_towers.py::test_clip_vision",
        "tests/interop/test_tokens.py::test_clip_ids_equal_transformers",
    ],
    "trained": None,
    "explained": None,
    "usable": None,
}


@dataclass(frozen=True)
class CLIPTextConfig:
    """Sizes of a `CLIPText`; the defaults are CLIP ViT-L/14's, as in Stable Diffusion 1.

    Attributes:
        vocabulary: number of token ids.
        length: most tokens it reads.
        dim: width.
        depth: layers.
        heads: attention heads.
        hidden: width of the feed-forward part.
        activation: its nonlinearity, `quick_gelu` in OpenAI's weights and `gelu` in OpenCLIP's.
        eps: of the layer norms.
        end: id of the end-of-text token.
        projection: width of the pooled state's projection; None: it is not projected.
    """

    vocabulary: int = 49408
    length: int = 77
    dim: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3072
    activation: Activation = quick_gelu
    eps: float = 1e-5
    end: int = 49407
    projection: int | None = None


@final
class CLIPText(nn.Module):
    """ids [B, L] int64 -> the states of all tokens after the final norm [B, L, D], and pooled [B, P]."""

    def __init__(self, config: CLIPTextConfig):
        super().__init__()
        self.config = c = config
        self.token = nn.Embedding(c.vocabulary, c.dim)
        self.position = nn.Parameter(torch.randn(c.length, c.dim).mul_(0.01))
        self.layers = nn.ModuleList(
            EncoderLayer(c.dim, c.heads, c.hidden, c.activation, eps=c.eps) for _ in range(c.depth)
        )
        self.norm = nn.LayerNorm(c.dim, c.eps)
        self.projection = None if c.projection is None else nn.Linear(c.dim, c.projection, bias=False)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.norm(self.hidden(ids))  # [B, L, D]
        return tokens, self.pooled(tokens, ids)

    def embed(self, ids: Tensor) -> Tensor:
        """What the tokens mean by themselves, before any position: [B, L] -> [B, L, D]."""
        return self.token(ids)

    def hidden(self, ids: Tensor, layers: int | None = None, embedded: Tensor | None = None) -> Tensor:
        """States after the first `layers` layers (None: all), without the final norm: [B, L, D].

        `embedded` [B, L, D]: to be read in the place of `embed(ids)`. Raises `UsageError` for a text that is too long
        and for layers that do not exist.
        """
        length = check_length(ids, self.config.length)
        x = (self.embed(ids) if embedded is None else embedded) + self.position[:length]  # [B, L, D]
        causal = torch.ones(1, length, length, dtype=torch.bool, device=x.device).tril()
        return run(self.layers, x, layers, causal)

    def pooled(self, last: Tensor, ids: Tensor) -> Tensor:
        """The state at each text's first end-of-text token, projected if this tower does so: [B, L, D] -> [B, P].

        `last`: states after the final norm. A text without that token has the state at its start.
        """
        at = (ids == self.config.end).int().argmax(dim=1)  # [B]
        state = last[torch.arange(len(ids), device=last.device), at]  # [B, D]
        return state if self.projection is None else self.projection(state)
