r"""The algebra of invertible layers: each maps x to z, tells how it changes volume, and maps back.

With z = f(x) and a density p_Z, the change of variables gives log p_X(x) = log p_Z(f(x)) + log |det df/dx| (Dinh,
Krueger & Bengio 2014, NICE, arXiv 1410.8516, Eq. 3). Determinants of a composition multiply, so a flow is a list.
Multi-scale: half of the channels leave the chain early and are latents as they are (Dinh, Sohl-Dickstein & Bengio 2016,
Real NVP, arXiv 1605.08803, Sec. 3.6, Eq. 13 to 16). Book: chapter 3.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from math import prod
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.core.errors import UsageError

Shape = tuple[int, int, int]


class Bijection(nn.Module, ABC):
    """An invertible layer. Log-determinants are [B], in nats, in float32 or wider whatever the dtype of x."""

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z = f(x) and log |det df/dx| [B]."""

    @abstractmethod
    def inverse(self, z: Tensor) -> Tensor:
        """x = f^-1(z)."""

    @torch.no_grad()
    def initialise(self, x: Tensor) -> Tensor:
        """Sets what starts from data (activation norm) by a first batch `x`; returns z. Others just pass it on."""
        z: Tensor = self(x)[0]
        return z

    def layers(self) -> Iterator[Bijection]:
        """The layers that this one is a composition of, in the order in which data meets them; itself if of none."""
        yield self


def wide(x: Tensor) -> Tensor:
    """`x` in float32, or wider if it was."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def per_picture(x: Tensor) -> Tensor:
    """Sum over all but the batch, in float32 or wider. [B, ...] -> [B]."""
    return wide(x).flatten(1).sum(1)


def no_change(x: Tensor) -> Tensor:
    """The log-determinant of layers that keep volume: zeros, [B]."""
    return x.new_zeros(len(x), dtype=torch.promote_types(x.dtype, torch.float32))


def along_channels(numbers: Tensor, x: Tensor) -> Tensor:
    """[C] as something that broadcasts over x [B, C, ...]."""
    return numbers.reshape(-1, *[1] * (x.ndim - 2))


@final
class Chain(Bijection):
    """f_n o ... o f_1: the layers in the order in which data meets them."""

    def __init__(self, steps: Iterable[Bijection]):
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        log_det = no_change(x)
        for step in self.steps:
            x, more = step(x)
            log_det = log_det + more
        return x, log_det

    def inverse(self, z: Tensor) -> Tensor:
        for step in self._backwards():
            z = step.inverse(z)
        return z

    @torch.no_grad()
    def initialise(self, x: Tensor) -> Tensor:
        for step in self._forwards():
            x = step.initialise(x)
        return x

    def layers(self) -> Iterator[Bijection]:
        for step in self._forwards():
            yield from step.layers()

    def _forwards(self) -> list[Bijection]:
        return [step for step in self.steps if isinstance(step, Bijection)]

    def _backwards(self) -> list[Bijection]:
        return self._forwards()[::-1]


@final
class Flatten(Bijection):
    """[B, *shape] -> [B, D]."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.flatten(1), no_change(x)

    def inverse(self, z: Tensor) -> Tensor:
        return z.unflatten(1, self.shape)


@final
class Squeeze(Bijection):
    """Each 2 x 2 square of pixels becomes four channels: [B, C, H, W] -> [B, 4 C, H/2, W/2] (Real NVP, Sec. 3.6).

    Channel 4 c + 2 i + j holds row i, column j of the squares of channel c.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return F.pixel_unshuffle(x, 2), no_change(x)

    def inverse(self, z: Tensor) -> Tensor:
        return F.pixel_shuffle(z, 2)


@final
class FactorOut(Bijection):
    """[B, C, H, W] -> [B, C H W]: the first half of the channels goes on through `rest`, the second is latent as it is.

    Latents of `rest` come first: coarse before fine. Raises `UsageError` for an odd number of channels.
    """

    def __init__(self, shape: Shape, rest: Bijection):
        super().__init__()
        if shape[0] % 2:
            raise UsageError(f"Half of the channels leave the flow here, so they must be even, found {shape[0]}.")
        self.piece, self.rest = (shape[0] // 2, *shape[1:]), rest

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        kept, latent = x.chunk(2, dim=1)  # [B, C/2, H, W]
        z, log_det = self.rest(kept)
        return torch.cat([z, latent.flatten(1)], dim=1), log_det

    def inverse(self, z: Tensor) -> Tensor:
        coarse, latent = z.split(prod(self.piece), dim=1)  # [B, C H W / 2]
        return torch.cat([self.rest.inverse(coarse), latent.unflatten(1, self.piece)], dim=1)

    @torch.no_grad()
    def initialise(self, x: Tensor) -> Tensor:
        kept, latent = x.chunk(2, dim=1)
        return torch.cat([self.rest.initialise(kept), latent.flatten(1)], dim=1)
