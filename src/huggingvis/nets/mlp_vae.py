"""Encoder, decoder and prior of variational autoencoders as multilayer perceptrons.

Kingma & Welling 2013 (arXiv 1312.6114), appendix C, with any number of hidden layers and SiLU (Elfwing et al. 2017,
arXiv 1702.03118) in place of tanh; the prior that a condition decides is that of Sohn, Lee & Yan 2015 (NeurIPS).
Book: chapter 1.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn

from huggingvis.nets.initial import he_weights


def _layers(widths: tuple[int, ...], act: Callable[[], nn.Module]) -> list[nn.Module]:
    """Linear layers between the widths, each followed by the nonlinearity."""
    return [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), act())]


@final
class MLPEncoder(nn.Module):
    """[B, C, H, W] -> [B, moments D]: mean and log-variance of q(z|x), or with `moments` 1 a code alone.

    `cond_dim`: numbers of a condition c [B, P] that are read beside the picture.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent_dim: int,
        hidden: tuple[int, ...] = (512, 256),
        *,
        moments: int = 2,
        cond_dim: int = 0,
        act: Callable[[], nn.Module] = nn.SiLU,
    ):
        super().__init__()
        widths = (shape[0] * shape[1] * shape[2] + cond_dim, *hidden)
        self.layers = nn.Sequential(nn.Flatten(), *_layers(widths, act), nn.Linear(widths[-1], moments * latent_dim))
        he_weights(self)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        x = x.flatten(1)  # [B, C H W]
        return self.layers(x if c is None else torch.cat([x, c], dim=1))


@final
class MLPDecoder(nn.Module):
    """[B, D] -> [B, C, H, W]: what the likelihood needs at each pixel."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent_dim: int,
        hidden: tuple[int, ...] = (256, 512),
        *,
        act: Callable[[], nn.Module] = nn.SiLU,
    ):
        super().__init__()
        pixels = shape[0] * shape[1] * shape[2]
        widths = (latent_dim, *hidden)
        self.layers = nn.Sequential(*_layers(widths, act), nn.Linear(widths[-1], pixels), nn.Unflatten(1, shape))
        he_weights(self)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)


@final
class MLPPrior(nn.Module):
    """c [B, P] -> [B, 2 D]: mean and log-variance of p(z|c). Fresh ones give N(0, I) whatever the condition."""

    def __init__(self, cond_dim: int, latent_dim: int, hidden: tuple[int, ...] = (256,)):
        super().__init__()
        widths = (cond_dim, *hidden)
        last = nn.Linear(widths[-1], 2 * latent_dim)
        self.layers = nn.Sequential(*_layers(widths, nn.SiLU), last)
        he_weights(self)
        nn.init.zeros_(last.weight)

    def forward(self, c: Tensor) -> Tensor:
        return self.layers(c)
