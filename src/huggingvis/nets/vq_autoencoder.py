"""Autoencoders whose latents are codes, and the convolutional encoder and decoder of VQ-VAE.

van den Oord, Vinyals & Kavukcuoglu 2017 (arXiv 1711.00937), Sec. 4.1: strided 4x4 convolutions, then residual blocks
(ReLU, 3x3, ReLU, 1x1), and the mirror image of it. The 3x3 convolution before the residual blocks and the narrow width
inside them are those of the authors' published example. `latent_vq` builds on the networks of latent diffusion instead
(Rombach et al. 2022, arXiv 2112.10752, Sec. 3.1, VQ-regularised), which `checkpoints.diffusers_vq` exchanges with
diffusers. Book: chapter 1.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.core.errors import UsageError
from huggingvis.nets.autoencoder_kl import AutoencoderConfig, Decoder, Encoder
from huggingvis.nets.quantisers import Quantised, Quantiser


@final
class ResidualStack(nn.Module):
    """`blocks` times x + conv1x1(relu(conv3x3(relu x))), then relu. [B, width, H, W] -> the same."""

    def __init__(self, width: int, inner: int, blocks: int):
        super().__init__()
        self.wide = nn.ModuleList(nn.Conv2d(width, inner, 3, padding=1) for _ in range(blocks))
        self.narrow = nn.ModuleList(nn.Conv2d(inner, width, 1) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        for wide, narrow in zip(self.wide, self.narrow):
            x = x + narrow(F.relu(wide(F.relu(x))))
        return F.relu(x)


def _prepare(net: nn.Module) -> None:
    """Signals keep their size on the way (He et al. 2015, arXiv 1502.01852, Eq. 10), and biases begin at 0.

    Otherwise latents differ less from picture to picture than biases are large, and all fall to one code.
    """
    for conv in net.modules():
        if isinstance(conv, nn.Conv2d | nn.ConvTranspose2d) and conv.bias is not None:
            fan_in = conv.in_channels * conv.kernel_size[0] * conv.kernel_size[1]
            if isinstance(conv, nn.ConvTranspose2d):  # only every second tap in each direction meets a number
                fan_in //= 4
            nn.init.normal_(conv.weight, std=(2 / fan_in) ** 0.5)
            nn.init.zeros_(conv.bias)


def _widths(width: int, levels: int) -> list[int]:
    """Channels after each halving: half as many after the first of several, as pixels say little there."""
    return [width // 2 if i == 0 and levels > 1 else width for i in range(levels)]


@final
class ResidualEncoder(nn.Module):
    """[B, C, H, W] -> [B, width, H / 2^levels, W / 2^levels]; H and W are multiples of 2^levels."""

    def __init__(self, channels: int, width: int = 128, levels: int = 2, blocks: int = 2):
        super().__init__()
        widths = [channels, *_widths(width, levels)]
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths))
        self.middle = nn.Conv2d(widths[-1], width, 3, padding=1)
        self.stack = ResidualStack(width, max(width // 4, 1), blocks)
        _prepare(self)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.down:
            x = F.relu(conv(x))  # [B, _, H/2, W/2]
        return self.stack(self.middle(x))


@final
class ResidualDecoder(nn.Module):
    """[B, width, h, w] -> [B, channels, 2^levels h, 2^levels w]."""

    def __init__(self, channels: int, width: int = 128, levels: int = 2, blocks: int = 2):
        super().__init__()
        self.middle = nn.Conv2d(width, width, 3, padding=1)
        self.stack = ResidualStack(width, max(width // 4, 1), blocks)
        widths = [width, *_widths(width, levels)[-2::-1], channels]
        ups: list[nn.Conv2d | nn.ConvTranspose2d] = [
            nn.ConvTranspose2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths)
        ]
        ups = ups if levels else [nn.Conv2d(width, channels, 3, padding=1)]
        self.up = nn.ModuleList(ups)
        _prepare(self)
        with torch.no_grad():
            ups[-1].weight.mul_(0.1)  # pictures begin near the middle grey

    def forward(self, z: Tensor) -> Tensor:
        h = self.stack(self.middle(z))
        for i, conv in enumerate(self.up):
            h = conv(F.relu(h) if i else h)
        return h


@final
class VQAutoencoder(nn.Module):
    """Encoder, 1x1 convolution to the quantiser's channels, quantiser, 1x1 convolution back, decoder.

    `widths`: channels that the encoder gives and those that the decoder takes. What the decoder's output means (pixels,
    or what a likelihood of pixels needs) is for others to say.
    """

    def __init__(self, encoder: nn.Module, quantiser: Quantiser, decoder: nn.Module, widths: tuple[int, int]):
        super().__init__()
        self.encoder, self.quantiser, self.decoder = encoder, quantiser, decoder
        self.quant_conv = nn.Conv2d(widths[0], quantiser.dim, 1)
        self.post_quant_conv = nn.Conv2d(quantiser.dim, widths[1], 1)
        for conv in (self.quant_conv, self.post_quant_conv):
            _prepare(conv)

    def latents(self, x: Tensor) -> Tensor:
        """z_e [B, D, h, w] of x [B, C, H, W]."""
        return self.quant_conv(self.encoder(x))

    def forward(self, x: Tensor) -> tuple[Tensor, Quantised]:
        """The decoder's output [B, C', H, W], and what the quantiser made on the way."""
        found: Quantised = self.quantiser(self.latents(x))
        return self.decoded(found.z), found

    def encode(self, x: Tensor) -> Tensor:
        """Codes, int64 [B, h, w]."""
        found: Quantised = self.quantiser(self.latents(x))
        return found.codes

    def decode(self, codes: Tensor) -> Tensor:
        """The decoder's output for codes [B, h, w], whole numbers of the codebook. Raises `UsageError` for others."""
        size = self.quantiser.size
        if codes.is_floating_point():
            raise UsageError(
                f"Codes are numbers of the {size} entries of a codebook, whole ones, found {codes.dtype}: between two "
                "codes lies nothing to decode. `encode` makes codes of pictures."
            )
        codes = codes.long()
        beyond = (codes < 0) | (codes >= size)
        if bool(beyond.any()):
            raise UsageError(
                f"There is no code {int(codes[beyond][0])} in this model's codebook, whose {size} codes are numbered "
                f"from 0 to {size - 1}. Decode codes that this model's own `encode` makes of pictures, or its prior."
            )
        return self.decoded(self.quantiser.look_up(codes).to(self.post_quant_conv.weight.dtype))

    def decoded(self, z: Tensor) -> Tensor:
        """The decoder's output for quantised latents [B, D, h, w]."""
        return self.decoder(self.post_quant_conv(z))


def residual_vq(
    quantiser: Quantiser, channels: tuple[int, int], width: int = 128, levels: int = 2, blocks: int = 2
) -> VQAutoencoder:
    """The paper's autoencoder around `quantiser`; `channels`: of the picture, and of what the decoder gives."""
    encoder = ResidualEncoder(channels[0], width, levels, blocks)
    return VQAutoencoder(encoder, quantiser, ResidualDecoder(channels[1], width, levels, blocks), (width, width))


def latent_vq(quantiser: Quantiser, sizes: AutoencoderConfig, out_channels: int | None = None) -> VQAutoencoder:
    """The autoencoder of latent diffusion around `quantiser`: what diffusers calls VQModel. No patch folding.

    `out_channels`: of the decoder, those of the picture if not given.
    """
    z = sizes.latent_channels
    decoder = Decoder(replace(sizes, in_channels=out_channels or sizes.in_channels))
    return VQAutoencoder(Encoder(sizes, z), quantiser, decoder, (z, z))


@torch.no_grad()
def grid_of(net: VQAutoencoder, shape: tuple[int, int, int]) -> tuple[int, int]:
    """(h, w) of the codes of one picture [C, H, W]."""
    like = net.quant_conv.weight
    h, w = net.encode(torch.zeros(1, *shape, dtype=like.dtype, device=like.device)).shape[1:]
    return h, w
