"""CLIP's image tower: a vision transformer whose class token, projected, lies in the space of the texts.

Radford et al. 2021 (arXiv 2103.00020), section 2.4, on Dosovitskiy et al. 2020 (arXiv 2010.11929). IP-Adapters look at
its projected embedding or at the states before its last layer; the safety checker of Stable Diffusion measures angles
between embeddings. Book: chapter 6, "Pictures as prompts".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from einops import rearrange
from torch import Tensor, nn

from huggingvis.core.errors import UsageError
from huggingvis.nets.encoder_layer import Activation, EncoderLayer, quick_gelu, run


@dataclass(frozen=True)
class CLIPVisionConfig:
    """Sizes of a `CLIPVision`; the defaults are CLIP ViT-L/14's.

    Attributes:
        image: height and width of the pictures it reads.
        patch: height and width of a patch.
        channels: of the pictures.
        dim: width.
        depth: layers.
        heads: attention heads.
        hidden: width of the feed-forward part.
        activation: its nonlinearity, `quick_gelu` in OpenAI's weights and `gelu` in OpenCLIP's.
        eps: of the layer norms.
        projection: width of the embedding; None: the class token's state is not projected.
    """

    image: int = 224
    patch: int = 14
    channels: int = 3
    dim: int = 1024
    depth: int = 24
    heads: int = 16
    hidden: int = 4096
    activation: Activation = quick_gelu
    eps: float = 1e-5
    projection: int | None = 768


@final
class CLIPVision(nn.Module):
    """Pictures [B, C, S, S] -> states of the class token and the N patches [B, 1+N, D], and their embedding [B, P].

    The pictures are normalised as CLIP's were: each channel less its mean, over its standard deviation.
    """

    def __init__(self, config: CLIPVisionConfig):
        super().__init__()
        self.config = c = config
        self.patch = nn.Conv2d(c.channels, c.dim, c.patch, stride=c.patch, bias=False)
        self.start = nn.Parameter(torch.randn(c.dim).mul_(c.dim**-0.5))
        self.position = nn.Parameter(torch.randn(1 + (c.image // c.patch) ** 2, c.dim).mul_(c.dim**-0.5))
        self.norm_in = nn.LayerNorm(c.dim, c.eps)
        self.layers = nn.ModuleList(
            EncoderLayer(c.dim, c.heads, c.hidden, c.activation, eps=c.eps) for _ in range(c.depth)
        )
        self.norm = nn.LayerNorm(c.dim, c.eps)
        self.projection = None if c.projection is None else nn.Linear(c.dim, c.projection, bias=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.hidden(image)  # [B, 1+N, D]
        return tokens, self.pooled(tokens)

    def hidden(self, image: Tensor, layers: int | None = None) -> Tensor:
        """States after the first `layers` layers (None: all), without the final norm: [B, 1+N, D].

        Raises `UsageError` for pictures of another size and for layers that do not exist.
        """
        c = self.config
        if image.shape[1:] != (c.channels, c.image, c.image):
            raise UsageError(
                f"This image tower reads pictures of shape {[c.channels, c.image, c.image]}, found "
                f"{list(image.shape[1:])}: resize and crop them first."
            )
        patches = rearrange(self.patch(image), "b d h w -> b (h w) d")  # [B, N, D]
        x = torch.cat([self.start.expand(len(image), 1, -1), patches], dim=1) + self.position  # [B, 1+N, D]
        return run(self.layers, self.norm_in(x), layers)

    def pooled(self, last: Tensor) -> Tensor:
        """The normed state of the class token, projected if this tower does so: [B, 1+N, D] -> [B, P]."""
        state = self.norm(last[:, 0])  # [B, D]
        return state if self.projection is None else self.projection(state)
