"""Convolutional blocks shared by U-Nets and autoencoders: residual block, resampling, attention over a feature map.

Residual block: He et al. 2016 (arXiv 1512.03385) with group norm (Wu & He 2018, arXiv 1803.08494) and an embedding
that shifts, or scales and shifts (Dhariwal & Nichol 2021, arXiv 2105.05233), the second normalisation.
Book: chapter 4, "Networks".
"""

from __future__ import annotations

from typing import final

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.nets.attention import Attention, TransformerBlock


@final
class ResBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm x)) [+ embedding]))). x [B, C_in, H, W], emb [B, E] -> [B, C_out, H, W]."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        emb_dim: int | None = None,
        *,
        groups: int = 32,
        eps: float = 1e-5,
        scale_shift: bool = False,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.norm1 = nn.GroupNorm(min(groups, c_in), c_in, eps)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.emb = None if emb_dim is None else nn.Linear(emb_dim, (2 if scale_shift else 1) * c_out)
        self.norm2 = nn.GroupNorm(min(groups, c_out), c_out, eps)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.skip = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)
        self.scale_shift = scale_shift

    def forward(self, x: Tensor, emb: Tensor | None = None) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))  # [B, C_out, H, W]
        if self.emb is None or emb is None:
            h = self.norm2(h)
        elif self.scale_shift:
            scale, shift = self.emb(F.silu(emb))[:, :, None, None].chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale) + shift
        else:
            h = self.norm2(h + self.emb(F.silu(emb))[:, :, None, None])
        return self.skip(x) + self.conv2(self.dropout(F.silu(h)))


@final
class Downsample(nn.Module):
    """Halve height and width by a strided 3x3 convolution. `padding` 0: right and below only, as in KL autoencoders."""

    def __init__(self, channels: int, padding: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=padding)
        self.one_sided = padding == 0

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.one_sided else x)


@final
class Upsample(nn.Module):
    """Double height and width by nearest neighbour, or bring them to `size`, then a 3x3 convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        size = (2 * x.shape[2], 2 * x.shape[3]) if size is None else size
        return self.conv(F.interpolate(x, size, mode="nearest"))


@final
class MapAttention(nn.Module):
    """x + attention over all positions of a normalised map. [B, C, H, W] -> the same."""

    def __init__(self, channels: int, heads: int, *, groups: int = 32, eps: float = 1e-5):
        super().__init__()
        self.norm = nn.GroupNorm(min(groups, channels), channels, eps)
        self.attn = Attention(channels, heads, qkv_bias=True)

    def forward(self, x: Tensor) -> Tensor:
        h = rearrange(self.norm(x), "b c h w -> b (h w) c")
        return x + rearrange(self.attn(h), "b (h w) c -> b c h w", h=x.shape[2])


@final
class MapTransformer(nn.Module):
    """x + proj(blocks(proj(norm x))): `depth` transformer blocks over a feature map, looking at text tokens."""

    def __init__(
        self, channels: int, heads: int, context_dim: int | None, *, depth: int = 1, groups: int = 32, mult: float = 4.0
    ):
        super().__init__()
        self.norm = nn.GroupNorm(min(groups, channels), channels, 1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.blocks = nn.ModuleList(TransformerBlock(channels, heads, context_dim, mult) for _ in range(depth))
        self.proj_out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, tokens: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        h = self.proj_in(rearrange(self.norm(x), "b c h w -> b (h w) c"))  # [B, HW, C]
        for block in self.blocks:
            h = block(h, tokens, mask)
        return x + rearrange(self.proj_out(h), "b (h w) c -> b c h w", h=x.shape[2])


@final
class MapReading(nn.Module):
    """x + attention from each position of a normalised map to the text: what a fine level can afford to ask."""

    def __init__(self, channels: int, heads: int, context_dim: int, *, groups: int = 32):
        super().__init__()
        self.norm = nn.GroupNorm(min(groups, channels), channels, 1e-6)
        self.attn = Attention(channels, heads, context_dim)

    def forward(self, x: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        h = self.attn(rearrange(self.norm(x), "b c h w -> b (h w) c"), tokens, mask)  # [B, HW, C]
        return x + rearrange(h, "b (h w) c -> b c h w", h=x.shape[2])
