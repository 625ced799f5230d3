"""A small autoencoder of strided convolutions: GELU, three halvings, one linear layer into the code and one out of it.

The network of tutorial 9 of the UvA deep learning course (P. Lippe, github.com/phlippe/uvadlc_notebooks, MIT). Its
decoder enlarges by transposed convolutions. `huggingvis.systems.cifar10_autoencoder` loads public weights into it.
Book: chapter 1, "Real weights".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor, nn


@dataclass(frozen=True)
class StridedConfig:
    """Sizes.

    Attributes:
        channels: of the pictures.
        size: their side, a multiple of 8.
        width: channels of the finest level; the others have twice as many.
        latent_dim: numbers in the code.
    """

    channels: int = 3
    size: int = 32
    width: int = 32
    latent_dim: int = 128

    @property
    def flat(self) -> int:
        """Numbers of the coarsest map."""
        return 2 * self.width * (self.size // 8) ** 2


@final
class StridedEncoder(nn.Module):
    """[B, C, H, W] -> [B, D]."""

    def __init__(self, config: StridedConfig):
        super().__init__()
        w = config.width
        plan = ((config.channels, w, 2), (w, w, 1), (w, 2 * w, 2), (2 * w, 2 * w, 1), (2 * w, 2 * w, 2))
        convs = [nn.Conv2d(a, b, 3, stride, padding=1) for a, b, stride in plan]
        self.layers = nn.Sequential(*(layer for conv in convs for layer in (conv, nn.GELU())), nn.Flatten())
        self.out = nn.Linear(config.flat, config.latent_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layers(x))


@final
class StridedDecoder(nn.Module):
    """[B, D] -> [B, C, H, W] in (-1, 1)."""

    def __init__(self, config: StridedConfig):
        super().__init__()
        w, side = config.width, config.size // 8
        self.first = nn.Sequential(
            nn.Linear(config.latent_dim, config.flat), nn.GELU(), nn.Unflatten(1, (2 * w, side, side))
        )

        def double(a: int, b: int) -> nn.Module:
            return nn.ConvTranspose2d(a, b, 3, stride=2, padding=1, output_padding=1)

        layers = (
            double(2 * w, 2 * w),
            nn.Conv2d(2 * w, 2 * w, 3, padding=1),
            double(2 * w, w),
            nn.Conv2d(w, w, 3, padding=1),
        )
        self.layers = nn.Sequential(*(part for layer in layers for part in (layer, nn.GELU())))
        self.out = nn.Sequential(double(w, config.channels), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        return self.out(self.layers(self.first(z)))
