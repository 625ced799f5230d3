"""A tiny autoencoder into the latent space of a large one: previews, laptops, quick training in latents.

The family of TAESD (Bohan 2023, github.com/madebyollin/taesd): plain 3x3 residual blocks with ReLU and no attention,
trained to read and write the latents of a KL autoencoder. The newest members add a 1x1 bottleneck with group norm
before the blocks of the smallest maps, so that they see the statistics of the whole picture.
Book: chapter 5, "A space worth diffusing in".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class TinyAutoencoderConfig:
    """Sizes of a `TinyAutoencoder`.

    Attributes:
        latent_channels: 4 for Stable Diffusion 1, 2 and XL, 16 for SD 3 and FLUX.1, 32 for FLUX.2.
        width: channels of every map.
        levels: halvings of height and width; 3 is 8x.
        blocks: residual blocks at each smaller level.
        image_channels: of the picture.
        pooled: whether the blocks of the smallest maps have the normalised bottleneck.
        clamp: latents are squashed softly into (-clamp, clamp) before decoding.
    """

    latent_channels: int = 4
    width: int = 64
    levels: int = 3
    blocks: int = 3
    image_channels: int = 3
    pooled: bool = False
    clamp: float = 3.0


@final
class PooledBottleneck(nn.Module):
    """x + 1x1 conv of relu(group norm of 1x1 conv): four times as wide inside, normalised over the whole map."""

    def __init__(self, width: int):
        super().__init__()
        self.expand = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.norm = nn.GroupNorm(4, 4 * width)
        self.reduce = nn.Conv2d(4 * width, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.reduce(F.relu(self.norm(self.expand(x))))


@final
class TinyBlock(nn.Module):
    """relu(x + conv relu conv relu conv x), after the bottleneck where there is one. [B, C, H, W] -> the same."""

    def __init__(self, width: int, pooled: bool = False):
        super().__init__()
        self.pool = PooledBottleneck(width) if pooled else nn.Identity()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv3 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(x)
        h = F.relu(self.conv1(x))
        return F.relu(x + self.conv3(F.relu(self.conv2(h))))


@final
class TinyEncoder(nn.Module):
    """Pictures [B, 3, H, W] in [0, 1] -> latents [B, Z, h, w], h = H / 2^levels."""

    def __init__(self, config: TinyAutoencoderConfig):
        super().__init__()
        w, last = config.width, config.levels - 1
        self.stem = nn.Conv2d(config.image_channels, w, 3, padding=1)
        self.first = TinyBlock(w)
        self.down = nn.ModuleList(nn.Conv2d(w, w, 3, 2, 1, bias=False) for _ in range(config.levels))
        self.blocks = nn.ModuleList(
            nn.ModuleList(TinyBlock(w, config.pooled and level == last) for _ in range(config.blocks))
            for level in range(config.levels)
        )
        self.out = nn.Conv2d(w, config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(self.stem(x))  # [B, W, H, W]
        for down, blocks in zip(self.down, self.blocks):
            h = down(h)
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h)
        return self.out(h)


@final
class TinyDecoder(nn.Module):
    """Latents [B, Z, h, w] -> pictures [B, 3, H, W], about [0, 1], not clipped. Level 0 has the smallest maps."""

    def __init__(self, config: TinyAutoencoderConfig):
        super().__init__()
        w = config.width
        self.clamp = config.clamp
        self.stem = nn.Conv2d(config.latent_channels, w, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.ModuleList(TinyBlock(w, config.pooled and level == 0) for _ in range(config.blocks))
            for level in range(config.levels)
        )
        self.up = nn.ModuleList(nn.Conv2d(w, w, 3, padding=1, bias=False) for _ in range(config.levels))
        self.last = TinyBlock(w)
        self.out = nn.Conv2d(w, config.image_channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = F.relu(self.stem(torch.tanh(z / self.clamp) * self.clamp))  # [B, W, h, w]
        for blocks, up in zip(self.blocks, self.up):
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h)
            h = up(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return self.out(self.last(h))


@final
class TinyAutoencoder(nn.Module):
    """Both halves, with pictures [B, 3, H, W] in [-1, 1] on the outside; height and width multiples of 2^levels."""

    def __init__(self, config: TinyAutoencoderConfig):
        super().__init__()
        self.config = config
        self.encoder = TinyEncoder(config)
        self.decoder = TinyDecoder(config)

    def encode(self, x: Tensor) -> Tensor:
        """Latents [B, Z, h, w] as the large autoencoder's diffusion model uses them, without further scaling."""
        return self.encoder((x + 1) / 2)

    def decode(self, z: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] about [-1, 1], not clipped."""
        return self.decoder(z) * 2 - 1

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))
