"""The U-Net of diffusion models, with the ports every condition comes through.

Ronneberger et al. 2015 (arXiv 1505.04597) in the form of Ho et al. 2020 (arXiv 2006.11239) and, with text tokens,
Rombach et al. 2022 (arXiv 2112.10752). Ports: the clock `t`; and in the condition `vector` [B, V] (class, pooled text),
`tokens` [B, L, D] with `tokens_mask`, `concat` [B, C', H, W], `guidance` [B] (the scale that a net distilled from
guided steps imitates). For adapters: `residuals.N` is added to the N-th skip, and last to the middle, as ControlNet
does; `features.N` to the state that becomes the N-th skip and goes on from there, as T2I-Adapter does.
Book: chapter 4, "Networks".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.core.ports import Ported
from huggingvis.core.protocols import Cond
from huggingvis.core.text_memory import Remembers
from huggingvis.nets.blocks import Downsample, MapAttention, MapReading, MapTransformer, ResBlock, Upsample
from huggingvis.nets.embeddings import TimeEmbedding


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of a `UNet`.

    Attributes:
        in_channels: channels of x.
        out_channels: channels predicted.
        concat_channels: channels of the `concat` port, 0 for none.
        channels: width of each level, finest first.
        blocks: residual blocks of each level on the way down (one more on the way up).
        attention: for each level, depth of its attention: 0 none, n transformer blocks (one self-attention if no text).
        reads: for each level without attention, whether its positions look at the text; empty: at no level.
        middle: depth of attention in the middle.
        heads: attention heads at every level, where `head_dim` is 0.
        tokens_dim: width of text tokens, 0 for none.
        vector_dim: width of the `vector` port, 0 for none.
        groups: group-norm groups.
        scale_shift: embedding scales and shifts instead of only shifting.
        dropout: in residual blocks.
        clock_scale: the clock is multiplied by this before its sinusoid (1000 for clocks in [0, 1]).
        clock_shift: frequency convention of `embeddings.sinusoid`.
        ff_mult: width of the feed-forward in transformer blocks.
        head_dim: width of one head; a level of width w then has w / head_dim heads.
        norm_eps: of every group norm but the one before transformer blocks, which has 1e-6.
        downsample_padding: 1, or 0 to pad right and below only.
        vector_layers: 2 for Linear-SiLU-Linear; 1 for a table without bias, when `vector` is a one-hot class.
        guidance_dim: width of the sinusoid of the `guidance` port, 0 for none.
    """

    in_channels: int = 3
    out_channels: int = 3
    concat_channels: int = 0
    channels: tuple[int, ...] = (64, 128, 256)
    blocks: int = 2
    attention: tuple[int, ...] = (0, 0, 1)
    middle: int = 1
    heads: int = 4
    tokens_dim: int = 0
    vector_dim: int = 0
    groups: int = 32
    scale_shift: bool = False
    dropout: float = 0.0
    clock_scale: float = 1.0
    clock_shift: float = 0.0
    ff_mult: float = 4.0
    head_dim: int = 0
    norm_eps: float = 1e-5
    downsample_padding: int = 1
    vector_layers: int = 2
    reads: tuple[bool, ...] = ()
    guidance_dim: int = 0

    @property
    def emb(self) -> int:
        """Width of what blocks are told of the time and with it."""
        return 4 * self.channels[0]

    def heads_at(self, width: int) -> int:
        """Attention heads at a level of this width."""
        if self.head_dim and width % self.head_dim:
            raise ValueError(f"head_dim {self.head_dim} does not divide the width {width} of a level with attention")
        return width // self.head_dim if self.head_dim else self.heads

    def reads_at(self, level: int) -> bool:
        """Whether the positions of `level` look at the text where it has no transformer blocks."""
        return bool(self.tokens_dim and self.reads and self.reads[level])


class Level(nn.Module):
    """The blocks of one resolution on one side: residual blocks, each followed by attention, and a resampling."""

    def __init__(self, blocks: list[ResBlock], attention: list[nn.Module], resample: nn.Module | None):
        super().__init__()
        self.blocks, self.attention, self.resample = nn.ModuleList(blocks), nn.ModuleList(attention), resample


class Descent(Ported, Remembers, ABC):
    """The half of a U-Net that leads down, and its middle: a U-Net has it, and so has the ControlNet that steers one.

    `widths`: channels of each skip.
    """

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = c = config
        self.time = TimeEmbedding(c.channels[0], c.emb, c.clock_scale, c.clock_shift, guidance_dim=c.guidance_dim)
        self.vector = _vector(c) if c.vector_dim else None
        self.conv_in = nn.Conv2d(c.in_channels + c.concat_channels, c.channels[0], 3, padding=1)
        widths, width, last = [c.channels[0]], c.channels[0], len(c.channels) - 1
        self.down = nn.ModuleList()
        for i, (wide, depth) in enumerate(zip(c.channels, c.attention, strict=True)):
            blocks = [_res(c, width if j == 0 else wide, wide) for j in range(c.blocks)]
            width = wide
            resample = None if i == last else Downsample(wide, c.downsample_padding)
            self.down.append(Level(blocks, [_attention(c, wide, depth, c.reads_at(i)) for _ in blocks], resample))
            widths += [wide] * (c.blocks + (i < last))
        self.middle = Level([_res(c, width, width), _res(c, width, width)], [_attention(c, width, c.middle)], None)
        self.widths = tuple(widths)

    @abstractmethod
    def forward(self, x: Tensor, clock: Tensor, cond: Cond) -> Tensor | tuple[Tensor, ...]: ...

    def descend(self, x: Tensor, clock: Tensor, cond: Cond) -> tuple[Tensor, list[Tensor], Tensor]:
        """(the middle [B, C, h, w], skips, embedding of the times and what is told with it [B, E])."""
        emb = self.time(clock, cond["guidance"] if self.config.guidance_dim else None)  # [B, E]
        if self.vector is not None:
            emb = emb + self.vector(cond["vector"])
        if self.config.concat_channels:
            x = torch.cat([x, cond["concat"]], dim=1)
        skips: list[Tensor] = []

        def kept(h: Tensor) -> Tensor:
            skips.append(_plus(h, cond, f"features.{len(skips)}"))
            return skips[-1]

        h = kept(self.conv_in(x))  # [B, C_0, H, W]
        for level in self.down:
            assert isinstance(level, Level)
            for block, attention in zip(level.blocks, level.attention, strict=True):
                h = kept(_attend(attention, block(h, emb), cond))
            if level.resample is not None:
                h = kept(level.resample(h))
        h = self.middle.blocks[0](h, emb)
        h = self.middle.blocks[1](_attend(self.middle.attention[0], h, cond), emb)
        return _plus(h, cond, f"features.{len(skips)}"), skips, emb


@final
class UNet(Descent):
    """net(x [B, C, H, W], clock [B], cond) -> [B, C_out, H, W].

    A side that two does not divide is halved upwards, and on the way up brought to the size of the skip it meets.
    """

    def __init__(self, config: UNetConfig):
        super().__init__(config)
        c, widths, width = config, list(self.widths), config.channels[-1]
        self.up = nn.ModuleList()
        for i, (wide, depth) in reversed(list(enumerate(zip(c.channels, c.attention, strict=True)))):
            blocks = [_res(c, (width if j == 0 else wide) + widths.pop(), wide) for j in range(c.blocks + 1)]
            width = wide
            attention = [_attention(c, wide, depth, c.reads_at(i)) for _ in blocks]
            self.up.append(Level(blocks, attention, Upsample(wide) if i else None))
        self.norm_out = nn.GroupNorm(min(c.groups, width), width, c.norm_eps)
        self.conv_out = nn.Conv2d(width, c.out_channels, 3, padding=1)

    def forward(self, x: Tensor, clock: Tensor, cond: Cond) -> Tensor:
        cond = self.provided(x, clock, cond)
        if self.memory is not None and "tokens" in cond:
            cond = {**cond, "tokens": self.memory.known(cond["tokens"])}
        h, skips, emb = self.descend(x, clock, cond)
        h = _plus(h, cond, f"residuals.{len(skips)}")
        skips = [_plus(skip, cond, f"residuals.{n}") for n, skip in enumerate(skips)]
        for level in self.up:
            assert isinstance(level, Level)
            for block, attention in zip(level.blocks, level.attention, strict=True):
                h = _attend(attention, block(torch.cat([h, skips.pop()], dim=1), emb), cond)
            if level.resample is not None:
                h = level.resample(h, skips[-1].shape[2:])
        return self.conv_out(F.silu(self.norm_out(h)))  # [B, C_out, H, W]


def seeing_more(weights: Mapping[str, Tensor], net: UNet) -> dict[str, Tensor]:
    """`weights` for `net`, which sees more channels after theirs: what these say counts nothing at first."""
    first = weights["conv_in.weight"]  # [C_0, C, 3, 3]
    more = net.conv_in.in_channels - first.shape[1]
    return {**weights, "conv_in.weight": F.pad(first, (0, 0, 0, 0, 0, max(more, 0)))}


def _vector(c: UNetConfig) -> nn.Module:
    if c.vector_layers == 1:
        return nn.Linear(c.vector_dim, c.emb, bias=False)
    return nn.Sequential(nn.Linear(c.vector_dim, c.emb), nn.SiLU(), nn.Linear(c.emb, c.emb))


def _res(c: UNetConfig, c_in: int, c_out: int) -> ResBlock:
    return ResBlock(c_in, c_out, c.emb, groups=c.groups, eps=c.norm_eps, scale_shift=c.scale_shift, dropout=c.dropout)


def _attention(c: UNetConfig, width: int, depth: int, reads: bool = False) -> nn.Module:
    if not depth and not reads:
        return nn.Identity()
    heads = c.heads_at(width)
    if not depth:
        return MapReading(width, heads, c.tokens_dim, groups=c.groups)
    if c.tokens_dim:
        return MapTransformer(width, heads, c.tokens_dim, depth=depth, groups=c.groups, mult=c.ff_mult)
    return MapAttention(width, heads, groups=c.groups, eps=c.norm_eps)


def _attend(module: nn.Module, h: Tensor, cond: Cond) -> Tensor:
    if isinstance(module, MapTransformer | MapReading):
        return module(h, cond.get("tokens"), cond.get("tokens_mask"))
    return module(h)


def _plus(h: Tensor, cond: Cond, port: str) -> Tensor:
    """What an adapter brings to this place, added; the state as it is where none brings anything."""
    return h + cond[port] if port in cond else h
