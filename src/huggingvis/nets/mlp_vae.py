"""Encoder and decoder of a variational autoencoder as multilayer perceptrons.

Kingma & Welling 2013 (arXiv 1312.6114), appendix C, with any number of hidden layers and SiLU (Elfwing et al. 2017,
arXiv 1702.03118) in place of tanh. Book: chapter 1.
"""

from __future__ import annotations

from itertools import pairwise
from typing import final

from torch import Tensor, nn


def _layers(widths: tuple[int, ...]) -> list[nn.Module]:
    """Linear layers between the widths, each followed by the nonlinearity."""
    return [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.SiLU())]


@final
class MLPEncoder(nn.Module):
    """[B, C, H, W] -> [B, 2 D]: mean and log-variance of q(z|x)."""

    def __init__(self, shape: tuple[int, int, int], latent_dim: int, hidden: tuple[int, ...] = (512, 256)):
        super().__init__()
        pixels = shape[0] * shape[1] * shape[2]
        widths = (pixels, *hidden)
        self.layers = nn.Sequential(nn.Flatten(), *_layers(widths), nn.Linear(widths[-1], 2 * latent_dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@final
class MLPDecoder(nn.Module):
    """[B, D] -> [B, C, H, W]: what the likelihood needs at each pixel."""

    def __init__(self, shape: tuple[int, int, int], latent_dim: int, hidden: tuple[int, ...] = (256, 512)):
        super().__init__()
        pixels = shape[0] * shape[1] * shape[2]
        widths = (latent_dim, *hidden)
        self.layers = nn.Sequential(*_layers(widths), nn.Linear(widths[-1], pixels), nn.Unflatten(1, shape))

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)
