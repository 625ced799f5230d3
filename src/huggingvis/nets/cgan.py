"""Generator and discriminator that both read a label.

Mirza & Osindero 2014 (arXiv 1411.1784), Sec. 4.1, with its widths: noise and label go through layers of their own
before they meet, in the generator through rectifiers, in the discriminator through maxout units, with dropout in both.
Every module reads `cond["vector"]` [B, K], one-hot.

What the generator drops is most of the variety of its pictures: a trained one that draws with all its units makes one
digit for each class. So the coins that decide are a part of z, in training and when it draws. Book: chapter 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.core.protocols import Cond
from huggingvis.nets.mlp_gan import Maxout


@dataclass(frozen=True)
class CGANSizes:
    """Sizes of both nets.

    Attributes:
        noise: hidden units that read z.
        label: hidden units that read the label in the generator.
        joint: hidden units of the generator that read both.
        picture: maxout units that read the picture.
        critic_label: maxout units that read the label in the discriminator.
        critic_joint: maxout units of the discriminator that read both.
        dropout: share of hidden units left out, in the discriminator while training, in the generator by coins in z.
    """

    noise: int = 200
    label: int = 1000
    joint: int = 1200
    picture: int = 240
    critic_label: int = 50
    critic_joint: int = 240
    dropout: float = 0.5


@final
class CGANGenerator(nn.Module):
    """z [B, `latents`], each number from -1 to 1, and a label -> picture [B, C, H, W] in (-1, 1).

    The first `latent_dim` numbers are the noise of the paper; each other one keeps a hidden unit or drops it.
    """

    def __init__(self, shape: tuple[int, int, int], latent_dim: int, classes: int, sizes: CGANSizes = CGANSizes()):
        super().__init__()
        self.split = (latent_dim, sizes.noise + sizes.label, sizes.joint)
        self.noise = nn.Linear(latent_dim, sizes.noise)
        self.label = nn.Linear(classes, sizes.label)
        self.joint = nn.Linear(sizes.noise + sizes.label, sizes.joint)
        self.out, self.shape, self.dropout = (
            nn.Linear(sizes.joint, shape[0] * shape[1] * shape[2]),
            shape,
            sizes.dropout,
        )

    @property
    def latents(self) -> int:
        """Numbers in z: the noise, and a coin for each hidden unit."""
        return sum(self.split)

    def forward(self, z: Tensor, cond: Cond) -> Tensor:
        c = cond["vector"].to(z.dtype)  # [B, K]
        noise, *coins = z.split(self.split, dim=1)
        h = torch.cat([F.relu(self.noise(noise)), F.relu(self.label(c))], dim=1)
        h = F.relu(self.joint(self._kept(h, coins[0])))
        return torch.tanh(self.out(self._kept(h, coins[1]))).unflatten(1, self.shape)

    def _kept(self, h: Tensor, coins: Tensor) -> Tensor:
        """h without the units whose coin is among the last `dropout` of [-1, 1]; the others are scaled up for them."""
        return h * (coins < 1 - 2 * self.dropout) / (1 - self.dropout)


@final
class CGANCritic(nn.Module):
    """Picture [B, C, H, W] and a label -> logit [B]."""

    def __init__(self, shape: tuple[int, int, int], classes: int, sizes: CGANSizes = CGANSizes()):
        super().__init__()
        self.picture = Maxout(shape[0] * shape[1] * shape[2], sizes.picture, pieces=5)
        self.label = Maxout(classes, sizes.critic_label, pieces=5)
        self.joint = Maxout(sizes.picture + sizes.critic_label, sizes.critic_joint, pieces=4)
        self.dropout, self.out = nn.Dropout(sizes.dropout), nn.Linear(sizes.critic_joint, 1)

    def forward(self, x: Tensor, cond: Cond) -> Tensor:
        c = cond["vector"].to(x.dtype)  # [B, K]
        h = torch.cat([self.picture(x.flatten(1)), self.label(c)], dim=1)
        h = self.joint(self.dropout(h))
        return self.out(self.dropout(h)).flatten()
