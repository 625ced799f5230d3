"""A classifier of noisy pictures: the way down of a diffusion model's U-Net, told the noise level, and a mean.

Dhariwal & Nichol 2021 (arXiv 2105.05233), Sec. 4.3, with the plain mean over positions where they attend.
Book: chapter 4, "Guidance".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.nets.blocks import Downsample, MapAttention, ResBlock
from huggingvis.nets.embeddings import TimeEmbedding


@dataclass(frozen=True)
class NoisyClassifierConfig:
    """Sizes of a `NoisyClassifier`.

    Attributes:
        in_channels: channels of x.
        classes: how many there are.
        channels: width of each level, finest first.
        blocks: residual blocks of each level.
        attention: for each level, 1 with self-attention after its blocks, 0 without.
        heads: attention heads.
        groups: group-norm groups.
        dropout: in residual blocks.
        clock_scale: what the clock is multiplied by.
    """

    in_channels: int
    classes: int
    channels: tuple[int, ...]
    blocks: int = 1
    attention: tuple[int, ...] = ()
    heads: int = 4
    groups: int = 8
    dropout: float = 0.0
    clock_scale: float = 1.0


@final
class NoisyClassifier(nn.Module):
    """net(x [B, C, H, W], clock [B]) -> logits [B, K]. H and W are multiples of 2^(levels-1)."""

    def __init__(self, config: NoisyClassifierConfig):
        super().__init__()
        self.config = c = config
        width, emb = c.channels[0], 4 * c.channels[0]
        self.time = TimeEmbedding(width, emb, c.clock_scale)
        self.conv_in = nn.Conv2d(c.in_channels, width, 3, padding=1)
        self.blocks = nn.ModuleList()
        for i, wide in enumerate(c.channels):
            for _ in range(c.blocks):
                self.blocks.append(ResBlock(width, wide, emb, groups=c.groups, dropout=c.dropout))
                width = wide
            if c.attention and c.attention[i]:
                self.blocks.append(MapAttention(wide, c.heads, groups=c.groups))
            if i < len(c.channels) - 1:
                self.blocks.append(Downsample(wide))
        self.norm_out = nn.GroupNorm(c.groups, width)
        self.out = nn.Linear(width, c.classes)

    def features(self, x: Tensor, clock: Tensor) -> Tensor:
        """What the last layer sees, [B, C]."""
        emb = self.time(clock)  # [B, E]
        h = self.conv_in(x)  # [B, C_0, H, W]
        for block in self.blocks:
            h = block(h, emb) if isinstance(block, ResBlock) else block(h)
        return torch.mean(F.silu(self.norm_out(h)), (2, 3))

    def forward(self, x: Tensor, clock: Tensor) -> Tensor:
        return self.out(self.features(x, clock))  # [B, K]
