"""Generator and critics of an adversarial pair as multilayer perceptrons.

Goodfellow et al. 2014 (arXiv 1406.2661), Sec. 5: rectifiers in the generator, maxout units (Goodfellow et al. 2013,
arXiv 1302.4389) with dropout in the discriminator. Widths as in the authors' MNIST experiment. A critic gives logits
or scores; the sigmoid belongs to the game (`objectives.adversarial`). Book: chapter 2.
"""

from __future__ import annotations

from itertools import pairwise
from typing import final

from torch import Tensor, nn

from huggingvis.core.protocols import Cond


@final
class MLPGenerator(nn.Module):
    """z [B, D] -> picture [B, C, H, W] in (-1, 1)."""

    def __init__(self, shape: tuple[int, int, int], latent_dim: int, hidden: tuple[int, ...] = (1200, 1200)):
        super().__init__()
        widths = (latent_dim, *hidden)
        layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
        pixels = shape[0] * shape[1] * shape[2]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], pixels), nn.Tanh(), nn.Unflatten(1, shape))

    def forward(self, z: Tensor, cond: Cond) -> Tensor:
        return self.layers(z)


@final
class MLPCritic(nn.Module):
    """Picture [B, C, H, W] -> logit [B], through leaky rectifiers."""

    def __init__(self, shape: tuple[int, int, int], hidden: tuple[int, ...] = (256, 256), slope: float = 0.2):
        super().__init__()
        widths = (shape[0] * shape[1] * shape[2], *hidden)
        layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.LeakyReLU(slope))]
        self.layers = nn.Sequential(nn.Flatten(), *layers, nn.Linear(widths[-1], 1), nn.Flatten(0))

    def forward(self, x: Tensor, cond: Cond) -> Tensor:
        return self.layers(x)


@final
class Maxout(nn.Module):
    """x [B, in] -> [B, out]: each unit is the largest of `pieces` linear functions."""

    def __init__(self, in_features: int, out_features: int, pieces: int = 5):
        super().__init__()
        self.linear, self.pieces = nn.Linear(in_features, out_features * pieces), pieces

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).unflatten(1, (-1, self.pieces)).amax(2)  # [B, out, pieces] -> [B, out]


@final
class MaxoutCritic(nn.Module):
    """Picture [B, C, H, W] -> logit [B], through maxout units that see their inputs with dropout.

    `dropout`: share of the picture, and of each hidden layer, that is left out while training.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        hidden: tuple[int, ...] = (240, 240),
        pieces: int = 5,
        dropout: tuple[float, float] = (0.2, 0.5),
    ):
        super().__init__()
        widths = (shape[0] * shape[1] * shape[2], *hidden)
        layers: list[nn.Module] = [nn.Flatten(), nn.Dropout(dropout[0])]
        for a, b in pairwise(widths):
            layers += [Maxout(a, b, pieces), nn.Dropout(dropout[1])]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], 1), nn.Flatten(0))

    def forward(self, x: Tensor, cond: Cond) -> Tensor:
        return self.layers(x)
