"""Multilayer perceptrons that are told a time: small data without a picture's neighbourhoods, points and short words.

Hidden layers are residual, and the time scales and shifts each (Perez et al. 2017, arXiv 1709.07871), by the embedding
that diffusion's larger networks have. Fresh networks give 0. Book: chapter 4, "The first diffusion".
"""

from __future__ import annotations

from typing import final

from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.core.protocols import Cond
from huggingvis.nets.embeddings import TimeEmbedding


class _TimedMLP(nn.Module):
    """[B, ..., D] and clock [B] -> [B, ..., D']."""

    def __init__(self, inputs: int, outputs: int, width: int, depth: int, clock_scale: float):
        super().__init__()
        self.time = TimeEmbedding(width, width, clock_scale)
        self.enter = nn.Linear(inputs, width)
        self.layers = nn.ModuleList([nn.Linear(width, width) for _ in range(depth)])
        self.told = nn.ModuleList([nn.Linear(width, 2 * width) for _ in range(depth)])
        self.leave = nn.Linear(width, outputs)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor, clock: Tensor) -> Tensor:
        time = F.silu(self.time(clock))  # [B, H]
        time = time.reshape(len(time), *[1] * (x.ndim - 2), -1)  # [B, ..., H]
        h = self.enter(x)
        for layer, told in zip(self.layers, self.told, strict=True):
            scale, shift = told(time).chunk(2, dim=-1)
            h = h + F.silu(layer(h) * (1 + scale) + shift)
        return self.leave(h)


@final
class PointMLP(nn.Module):
    """Points x [B, C, ...] -> [B, `outputs`, ...], each by itself; the condition is not read.

    `sharp` multiplies the first weights: thin curves want fine features.
    """

    def __init__(
        self, channels: int, outputs: int, width: int = 64, depth: int = 3, clock_scale: float = 1.0, sharp: float = 3.0
    ):
        super().__init__()
        self.mlp = _TimedMLP(channels, outputs, width, depth, clock_scale)
        self.mlp.enter.weight.data.mul_(sharp)

    def forward(self, x: Tensor, clock: Tensor, cond: Cond) -> Tensor:
        return self.mlp(x.movedim(1, -1), clock).movedim(-1, 1)


@final
class WordMLP(nn.Module):
    """Words of `length` classes out of `classes`, int64 [B, ..., L] -> logits [B, ..., L, K]; no condition is read."""

    def __init__(self, length: int, classes: int, width: int = 64, depth: int = 3, clock_scale: float = 1000.0):
        super().__init__()
        self.classes = classes
        self.mlp = _TimedMLP(length * classes, length * classes, width, depth, clock_scale)

    def forward(self, x: Tensor, clock: Tensor, cond: Cond) -> Tensor:
        hot = F.one_hot(x, self.classes).to(self.mlp.enter.weight.dtype)  # [B, ..., L, K]
        return self.mlp(hot.flatten(-2), clock).unflatten(-1, (-1, self.classes))
