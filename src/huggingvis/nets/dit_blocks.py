"""What diffusion transformers share: pictures as patches, where a patch lies, and norms that a condition modulates.

Peebles & Xie 2022, "Scalable Diffusion Models with Transformers" (arXiv 2212.09748), Sec. 3.2: "patchify", sin-cos
positions, adaptive layer norm. The positions are those of Vaswani et al. 2017 (arXiv 1706.03762), Sec. 3.5, one for
each axis: half of the channels tell the column, half the row. Book: chapter 5, "Diffusion transformers".
"""

from __future__ import annotations

from typing import final

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.core.errors import UsageError


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Adaptive layer norm after the norm, x (1 + scale) + shift. x [B, L, D], the others broadcastable to it."""
    return x * (1 + scale) + shift


def sincos_positions(height: int, width: int, dim: int, extent: float, device: torch.device | str = "cpu") -> Tensor:
    """Where each of height x width patches lies: [height * width, dim] float32, row by row.

    `extent` is where an axis ends, however many patches it has: places are i * extent / n. So a net that learnt on
    32 x 32 patches meets no place it has not seen on 64 x 48 ones ("position interpolation"). dim: a multiple of 4.
    """
    if dim % 4:
        raise UsageError(
            f"Sines and cosines for two axes need a width that is a multiple of 4, found {dim}. Take another."
        )
    column, row = (_places(n, dim // 2, extent).to(device) for n in (width, height))  # [W, dim/2], [H, dim/2]
    both = [column[None].expand(height, -1, -1), row[:, None].expand(-1, width, -1)]  # [H, W, dim/2] each
    return torch.cat(both, dim=-1).flatten(0, 1)


def _places(n: int, dim: int, extent: float) -> Tensor:
    """[sin(w p), cos(w p)] of n places p, w from 1 down towards 1/10000: [n, dim].

    Places are float32 as where weights were trained, the rest is float64, which not every device has: on the CPU.
    """
    places = torch.arange(n, dtype=torch.float32, device="cpu") / (n / extent)
    w = 10_000.0 ** (-torch.arange(dim // 2, dtype=torch.float64, device="cpu") / (dim // 2))
    angles = places.double()[:, None] * w  # [n, dim/2]
    return torch.cat([angles.sin(), angles.cos()], dim=-1).float()


@final
class PatchEmbedding(nn.Module):
    """A picture cut into squares, each a token that knows its place. [B, C, H, W] -> [B, HW / patch^2, dim].

    Raises `UsageError` for a picture whose sides `patch` does not divide.
    """

    def __init__(self, channels: int, dim: int, patch: int, extent: float):
        super().__init__()
        self.patch, self.dim, self.extent = patch, dim, extent
        self.proj = nn.Conv2d(channels, dim, patch, stride=patch)

    def grid(self, x: Tensor) -> tuple[int, int]:
        """How many patches a picture has, down and across."""
        height, width = x.shape[-2:]
        if height % self.patch or width % self.patch:
            raise UsageError(
                f"This transformer sees squares of {self.patch} x {self.patch}, which do not fill {height} x {width}. "
                f"Choose height and width that are multiples of {self.patch}."
            )
        return height // self.patch, width // self.patch

    def forward(self, x: Tensor) -> Tensor:
        places = sincos_positions(*self.grid(x), self.dim, self.extent, x.device)  # [L, D]
        h = rearrange(self.proj(x), "b d h w -> b (h w) d")
        return (h + places).to(h.dtype)


def unpatchify(tokens: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """Tokens back as a picture: [B, h w, patch^2 C] -> [B, C, h patch, w patch]."""
    return rearrange(
        tokens, "b (h w) (p q c) -> b c (h p) (w q)", h=grid[0], w=grid[1], p=patch, q=patch
    )  # fmt: skip


@final
class FeedForward(nn.Module):
    """fc2(gelu(fc1 x)), with the tanh form of GELU (Hendrycks & Gimpel 2016, arXiv 1606.08415)."""

    def __init__(self, dim: int, inner: int, out: int | None = None):
        super().__init__()
        self.fc1 = nn.Linear(dim, inner)
        self.fc2 = nn.Linear(inner, out or dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))
