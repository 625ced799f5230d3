"""The KL-regularised convolutional autoencoder of latent diffusion.

Rombach et al. 2022 (arXiv 2112.10752), section 3.1: an encoder to a diagonal Gaussian at 1/f resolution and a decoder
back; f = 2^(levels-1). Book: chapter 5, "A space worth diffusing in".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.nets.blocks import Downsample, MapAttention, ResBlock, Upsample


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes of an `AutoencoderKL`.

    Attributes:
        in_channels: channels of the picture.
        latent_channels: channels of z.
        channels: width of each level, finest first; every further level halves the resolution.
        blocks: residual blocks of a level in the encoder (`extra` more in the decoder).
        extra: additional decoder blocks of a level.
        groups: group-norm groups.
        middle_attention: attend over all positions in the middle.
        quant_conv: 1x1 convolutions around z, as Stable Diffusion has.
        patch: pixels are first folded into channels by this factor (Shi et al. 2016, arXiv 1609.05158), 1 for not.
    """

    in_channels: int = 3
    latent_channels: int = 4
    channels: tuple[int, ...] = (128, 256, 512, 512)
    blocks: int = 2
    extra: int = 1
    groups: int = 32
    middle_attention: bool = True
    quant_conv: bool = True
    patch: int = 1


@final
@dataclass(frozen=True)
class Posterior:
    """q(z|x) = N(mean, exp(logvar)), both [B, C, h, w]."""

    mean: Tensor
    logvar: Tensor

    def draw(self, eps: Tensor) -> Tensor:
        """Reparameterised draw from standard noise `eps`."""
        return self.mean + torch.exp(0.5 * self.logvar) * eps

    def kl(self) -> Tensor:
        """KL(q || N(0, I)) in nats, [B]."""
        return 0.5 * (self.mean**2 + self.logvar.exp() - 1 - self.logvar).flatten(1).sum(1)


class _Middle(nn.Module):
    def __init__(self, width: int, c: AutoencoderConfig):
        super().__init__()
        self.block1 = ResBlock(width, width, groups=c.groups, eps=1e-6)
        self.attn = MapAttention(width, 1, groups=c.groups, eps=1e-6) if c.middle_attention else nn.Identity()
        self.block2 = ResBlock(width, width, groups=c.groups, eps=1e-6)

    def forward(self, h: Tensor) -> Tensor:
        return self.block2(self.attn(self.block1(h)))


@final
class Encoder(nn.Module):
    """[B, 3, H, W] -> [B, out, H/f, W/f]."""

    def __init__(self, c: AutoencoderConfig, out: int):
        super().__init__()
        self.config = c
        width = c.channels[0]
        self.conv_in = nn.Conv2d(c.in_channels * c.patch**2, width, 3, padding=1)
        levels: list[nn.Module] = []
        for i, wide in enumerate(c.channels):
            for _ in range(c.blocks):
                levels.append(ResBlock(width, wide, groups=c.groups, eps=1e-6))
                width = wide
            if i < len(c.channels) - 1:
                levels.append(Downsample(wide, padding=0))
        self.levels = nn.ModuleList(levels)
        self.middle = _Middle(width, c)
        self.norm_out = nn.GroupNorm(min(c.groups, width), width, 1e-6)
        self.conv_out = nn.Conv2d(width, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for layer in self.levels:
            h = layer(h)
        return self.conv_out(F.silu(self.norm_out(self.middle(h))))


@final
class Decoder(nn.Module):
    """[B, C, h, w] -> [B, 3, f h, f w]."""

    def __init__(self, c: AutoencoderConfig):
        super().__init__()
        width = c.channels[-1]
        self.conv_in = nn.Conv2d(c.latent_channels, width, 3, padding=1)
        self.middle = _Middle(width, c)
        levels: list[nn.Module] = []
        for i, wide in reversed(list(enumerate(c.channels))):
            for _ in range(c.blocks + c.extra):
                levels.append(ResBlock(width, wide, groups=c.groups, eps=1e-6))
                width = wide
            if i:
                levels.append(Upsample(wide))
        self.levels = nn.ModuleList(levels)
        self.norm_out = nn.GroupNorm(min(c.groups, width), width, 1e-6)
        self.conv_out = nn.Conv2d(width, c.in_channels * c.patch**2, 3, padding=1)

    def features(self, z: Tensor) -> Tensor:
        """Activations before the last normalisation [B, C_0, H, W]."""
        h = self.middle(self.conv_in(z))
        for layer in self.levels:
            h = layer(h)
        return h

    def forward(self, z: Tensor) -> Tensor:
        return self.conv_out(F.silu(self.norm_out(self.features(z))))


@final
class AutoencoderKL(nn.Module):
    """`posterior(x)`, `encode(x)` (its mean) and `decode(z)`; x [B, 3, H, W] in [-1, 1], z [B, C, H/f, W/f]."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.config = c = config
        self.encoder, self.decoder = Encoder(c, 2 * c.latent_channels), Decoder(c)
        z = c.latent_channels
        self.quant_conv = nn.Conv2d(2 * z, 2 * z, 1) if c.quant_conv else nn.Identity()
        self.post_quant_conv = nn.Conv2d(z, z, 1) if c.quant_conv else nn.Identity()

    @property
    def factor(self) -> int:
        """Down-sampling factor f."""
        return self.config.patch * 2 ** (len(self.config.channels) - 1)

    def posterior(self, x: Tensor) -> Posterior:
        if self.config.patch > 1:
            x = F.pixel_unshuffle(x, self.config.patch)  # [B, 3 p^2, H/p, W/p]
        mean, logvar = self.quant_conv(self.encoder(x)).chunk(2, dim=1)
        return Posterior(mean, logvar.clamp(-30.0, 20.0))

    def encode(self, x: Tensor) -> Tensor:
        return self.posterior(x).mean

    def decode(self, z: Tensor) -> Tensor:
        x = self.decoder(self.post_quant_conv(z))
        return F.pixel_shuffle(x, self.config.patch) if self.config.patch > 1 else x
