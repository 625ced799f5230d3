r"""Coupling layers: one part of x passes unchanged and decides how the other part is moved.

    z_b = x_b + t(x_a)                                  additive, NICE (Dinh et al. 2014, arXiv 1410.8516), Eq. 4
    z_b = (x_b + t(x_a)) exp(s(x_a))                    affine, after Real NVP (Dinh et al. 2016, arXiv 1605.08803)

with log-determinants 0 and sum s. We add before we scale, as the published code of Glow does. The papers scale first:
x_b exp(s) + t in Real NVP, Eq. 5, and s x_b + t in Glow (Kingma & Dhariwal 2018, arXiv 1807.03039, Table 1). With t
exp(s) for the papers' t it is the same family and the same log-determinant. What passes is said by a partition, so that
the network sees and makes only what is needed, instead of a mask. Book: chapter 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.nets.flows.bijection import Bijection, along_channels, no_change, per_picture, wide


class Partition(Protocol):
    """How x is cut into the part that passes and the part that is moved."""

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(passes, moved), their channels along dim 1."""
        ...

    def merge(self, passes: Tensor, moved: Tensor) -> Tensor:
        """The inverse of `split`."""
        ...


@final
@dataclass(frozen=True)
class Halves:
    """The first half of dim 1 passes; with `flip` the second."""

    flip: bool = False

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = x.chunk(2, dim=1)
        return (b, a) if self.flip else (a, b)

    def merge(self, passes: Tensor, moved: Tensor) -> Tensor:
        return torch.cat([moved, passes] if self.flip else [passes, moved], dim=1)


@final
@dataclass(frozen=True)
class EvenOdd:
    """Of [B, D], D even, the entries 0, 2, 4 ... pass; with `flip` the others (NICE, Sec. 5.1)."""

    flip: bool = False

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = x.unflatten(1, (-1, 2)).unbind(2)
        return (b, a) if self.flip else (a, b)

    def merge(self, passes: Tensor, moved: Tensor) -> Tensor:
        return torch.stack([moved, passes] if self.flip else [passes, moved], dim=2).flatten(1)


@final
@dataclass(frozen=True)
class Checkerboard:
    """The black squares of a chessboard pass, with `flip` the white ones; x [B, 4 C, H, W] is a squeezed picture.

    Squeezed (Real NVP, Fig. 3) a board's colours are channels: pixels (0, 0) and (1, 1) of each 2 x 2 square are black.
    So the network runs at half the resolution on what it needs, not on a picture that is half zeros.
    """

    flip: bool = False

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        squares = x.unflatten(1, (-1, 4))  # [B, C, 4, H, W]
        black, white = squares[:, :, ::3].flatten(1, 2), squares[:, :, 1:3].flatten(1, 2)
        return (white, black) if self.flip else (black, white)

    def merge(self, passes: Tensor, moved: Tensor) -> Tensor:
        black, white = (moved, passes) if self.flip else (passes, moved)
        black, white = black.unflatten(1, (-1, 2)), white.unflatten(1, (-1, 2))
        return torch.cat([black[:, :, :1], white, black[:, :, 1:]], dim=2).flatten(1, 2)


@final
class Exp(nn.Module):
    """s as the network gives it."""

    def forward(self, raw: Tensor) -> Tensor:
        return raw


@final
class Sigmoid(nn.Module):
    """s = log sigmoid(raw + 2): data is never stretched, so sampling never shrinks (code of Glow)."""

    def forward(self, raw: Tensor) -> Tensor:
        return F.logsigmoid(raw + 2)


@final
class Tanh(nn.Module):
    """s = f tanh(raw / f) with a learned f > 0 for each channel: the scale stays between exp(-f) and exp(f)."""

    def __init__(self, channels: int):
        super().__init__()
        self.log_bound = nn.Parameter(torch.zeros(channels))

    def forward(self, raw: Tensor) -> Tensor:
        f = wide(self.log_bound).exp().reshape(-1, *[1] * (raw.ndim - 2))
        return f * torch.tanh(raw / f)


@final
class AdditiveCoupling(Bijection):
    """z_b = x_b + g net(x_a), with one g > 0 for each of the `channels` that are moved.

    `initialise` makes g the deviation of x_b. The same functions without it: but values that hardly vary (a digit's
    border) weigh a thousand times more in the likelihood, and would drown the gradient of all others.
    """

    def __init__(self, net: nn.Module, partition: Partition, channels: int):
        super().__init__()
        self.net, self.partition = net, partition
        self.log_gain = nn.Parameter(torch.zeros(channels))

    def shift(self, a: Tensor) -> Tensor:
        """What is added, in float32 or wider."""
        return wide(self.net(a)) * along_channels(wide(self.log_gain).exp(), a)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.partition.split(x)
        return self.partition.merge(a, (b + self.shift(a)).to(x.dtype)), no_change(x)

    def inverse(self, z: Tensor) -> Tensor:
        a, b = self.partition.split(z)
        return self.partition.merge(a, (b - self.shift(a)).to(z.dtype))

    @torch.no_grad()
    def initialise(self, x: Tensor) -> Tensor:
        moved = wide(self.partition.split(x)[1]).transpose(0, 1).flatten(1)  # [C, B ...]
        self.log_gain.copy_(moved.std(1, correction=0).clamp_min(1e-6).log())
        return self(x)[0]


@final
class AffineCoupling(Bijection):
    """z_b = (x_b + t) exp(s); `net(x_a)` gives what `scale` makes s of, and then t, along dim 1."""

    def __init__(self, net: nn.Module, partition: Partition, scale: nn.Module):
        super().__init__()
        self.net, self.partition, self.scale = net, partition, scale

    def moves(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """s and t, in float32 or wider."""
        raw, t = wide(self.net(a)).chunk(2, dim=1)
        return self.scale(raw), t

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.partition.split(x)
        s, t = self.moves(a)
        return self.partition.merge(a, ((b + t) * s.exp()).to(x.dtype)), per_picture(s)

    def inverse(self, z: Tensor) -> Tensor:
        a, b = self.partition.split(z)
        s, t = self.moves(a)
        return self.partition.merge(a, (b * torch.exp(-s) - t).to(z.dtype))


def chessboard(height: int, width: int) -> Tensor:
    """1 where (row + column) is odd, else 0: [1, 1, H, W]."""
    return ((torch.arange(height)[:, None] + torch.arange(width)) % 2)[None, None].float()


@final
class MaskedAffineCoupling(Bijection):
    """Real NVP, Eq. 9, but adding before scaling, by a `mask` [1, C or 1, H, W] of ones where x passes: for sides that
    no square divides.

    `net` sees the whole picture with zeros where the mask is 0, and makes s and t for all of it.
    """

    mask: Tensor

    def __init__(self, net: nn.Module, mask: Tensor, scale: nn.Module):
        super().__init__()
        self.net, self.scale = net, scale
        self.register_buffer("mask", mask)

    def moves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """s and t, zero where x passes."""
        raw, t = wide(self.net(x * self.mask)).chunk(2, dim=1)
        return self.scale(raw) * (1 - self.mask), t * (1 - self.mask)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        s, t = self.moves(x)
        return ((x + t) * s.exp()).to(x.dtype), per_picture(s)

    def inverse(self, z: Tensor) -> Tensor:
        s, t = self.moves(z)
        return (z * torch.exp(-s) - t).to(z.dtype)
