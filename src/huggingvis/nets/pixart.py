"""PixArt-alpha: a diffusion transformer that reads a text, with one modulation for all of its blocks.

Chen, Yu, Ge, Yao, Xie, Wu, Wang, Kwok, Luo, Lu & Li 2023, "PixArt-alpha: Fast Training of Diffusion Transformer for
Photorealistic Text-to-Image Synthesis" (arXiv 2310.00426), Sec. 2.3: DiT's block (arXiv 2212.09748) with attention to
T5's tokens between its two halves, and adaLN-single. In a DiT each block has an MLP that makes its six modulations from
the clock, 27 % of its weights. Here one does it for all, and block i adds a table E_i of its own:

    S-bar = MLP(t),    S_i = S-bar + E_i,    S = [shift_1, scale_1, gate_1, shift_2, scale_2, gate_2]

Ports: the clock `t`; and in the condition `tokens` [B, L, C] with `tokens_mask`, and, in a net of many picture sizes,
`vector` [B, 3]: height and width in pixels, and height / width. Half of the channels predicted tell a variance:
`core.learned_variance`. Book: chapter 5, "Diffusion transformers".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.core.errors import UsageError
from huggingvis.core.protocols import Cond
from huggingvis.core.text_memory import Remembers
from huggingvis.nets.attention import Attention
from huggingvis.nets.dit_blocks import FeedForward, PatchEmbedding, modulate, unpatchify
from huggingvis.nets.embeddings import TimeEmbedding

SINUSOID = 256
"""Width of the sinusoids of the clock and of sizes."""


@dataclass(frozen=True)
class PixArtConfig:
    """Sizes of a `PixArt`; the defaults are those of the net for pictures of 512 x 512.

    Attributes:
        in_channels: channels of x.
        out_channels: channels predicted, twice as many where the variance is learnt.
        patch: side of the squares that become tokens.
        size: side of the x that the net was trained on; it takes others.
        interpolation: places of patches are divided by this, so that size / patch of them span as few as before.
        heads: attention heads.
        head_dim: width of one head.
        depth: blocks.
        tokens_dim: width of text tokens.
        sizes: whether the picture's size is told, in the `vector` port.
        norm_eps: of the norms in blocks.
        clock_scale: the clock is multiplied by this before its sinusoid (1000 for clocks in [0, 1]).
    """

    in_channels: int = 4
    out_channels: int = 8
    patch: int = 2
    size: int = 64
    interpolation: float = 1.0
    heads: int = 16
    head_dim: int = 72
    depth: int = 28
    tokens_dim: int = 4096
    sizes: bool = False
    norm_eps: float = 1e-6
    clock_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.size < self.patch:
            raise UsageError(
                f"A net trained on squares of {self.size} cannot cut them into patches of {self.patch}. Change one."
            )
        if self.sizes and self.width % 3:
            raise UsageError(
                f"Height, width and their ratio have a third of the net's width each, but {self.width} is no multiple "
                "of 3. Change heads or head_dim, or leave `sizes` out."
            )

    @property
    def width(self) -> int:
        """Width of the tokens that the net works on."""
        return self.heads * self.head_dim

    @property
    def extent(self) -> float:
        """Where the places of patches end, see `dit_blocks.sincos_positions`."""
        return self.size // self.patch / self.interpolation


@final
class PixArtBlock(nn.Module):
    """x + gate self(modulated norm x); x + cross(x, tokens); x + gate feed-forward(modulated norm x).

    Attention to the text has no norm before it and no modulation.
    """

    def __init__(self, dim: int, heads: int, eps: float = 1e-6):
        super().__init__()
        self.table = nn.Parameter(torch.randn(6, dim).div_(dim**0.5))  # E_i
        self.norm1 = nn.LayerNorm(dim, eps, elementwise_affine=False)
        self.attn1 = Attention(dim, heads, qkv_bias=True)
        self.attn2 = Attention(dim, heads, dim, qkv_bias=True)
        self.norm2 = nn.LayerNorm(dim, eps, elementwise_affine=False)
        self.ff = FeedForward(dim, 4 * dim)
        for start in (self.attn2.to_out.weight, self.attn2.to_out.bias):
            nn.init.zeros_(start)  # so that a DiT which learns to read starts as the DiT it was

    def forward(self, x: Tensor, shared: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """x [B, L, D], shared [B, 6, D] (S-bar), tokens [B, M, D], mask [B, M] bool, True where to look."""
        shift1, scale1, gate1, shift2, scale2, gate2 = (self.table + shared).chunk(6, dim=1)  # [B, 1, D] each
        x = x + gate1 * self.attn1(modulate(self.norm1(x), shift1, scale1))
        x = x + self.attn2(x, tokens, mask)
        return x + gate2 * self.ff(modulate(self.norm2(x), shift2, scale2))


@final
class PixArt(Remembers):
    """net(x [B, C, H, W], clock [B], cond) -> [B, C_out, H, W]. H and W are multiples of the patch."""

    def __init__(self, config: PixArtConfig):
        super().__init__()
        self.config = c = config
        dim = c.width
        self.patches = PatchEmbedding(c.in_channels, dim, c.patch, c.extent)
        self.time = TimeEmbedding(SINUSOID, dim, c.clock_scale)
        self.resolution = TimeEmbedding(SINUSOID, dim // 3) if c.sizes else None
        self.aspect = TimeEmbedding(SINUSOID, dim // 3) if c.sizes else None
        self.modulation = nn.Linear(dim, 6 * dim)
        self.text = FeedForward(c.tokens_dim, dim, dim)
        self.blocks = nn.ModuleList(PixArtBlock(dim, c.heads, c.norm_eps) for _ in range(c.depth))
        self.table = nn.Parameter(torch.randn(2, dim).div_(dim**0.5))
        self.norm_out = nn.LayerNorm(dim, 1e-6, elementwise_affine=False)
        self.out = nn.Linear(dim, c.patch**2 * c.out_channels)
        for start in (self.out.weight, self.out.bias):
            nn.init.zeros_(start)

    def forward(self, x: Tensor, clock: Tensor, cond: Cond) -> Tensor:
        emb = self._embedding(clock, cond)  # [B, D]
        shared = self.modulation(F.silu(emb)).unflatten(1, (6, -1))  # [B, 6, D]
        tokens, mask = self.text(cond["tokens"]), cond.get("tokens_mask")  # [B, M, D]
        if self.memory is not None:
            tokens = self.memory.known(tokens)
        h = self.patches(x)  # [B, L, D]
        for block in self.blocks:
            h = block(h, shared, tokens, mask)
        shift, scale = (self.table + emb[:, None]).chunk(2, dim=1)  # [B, 1, D] each
        h = self.out(modulate(self.norm_out(h), shift, scale))  # [B, L, patch^2 C_out]
        return unpatchify(h, self.patches.grid(x), self.config.patch)

    def _embedding(self, clock: Tensor, cond: Cond) -> Tensor:
        """What the net is told beside the text: the clock, plus height, width and their ratio, a third each."""
        emb = self.time(clock)
        if self.resolution is None or self.aspect is None:
            return emb
        height, width, ratio = cond["vector"].unbind(1)  # [B] each
        told = [self.resolution(height), self.resolution(width), self.aspect(ratio)]  # [B, D/3] each
        return emb + torch.cat(told, dim=1)
