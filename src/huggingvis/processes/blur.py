r"""Blur as a process, alone or with noise: diagonal in the cosine basis, so that its spectrum is a closed form.

A Gaussian blur of deviation w pixels with mirrored borders (edge pixels repeated) multiplies the coefficient (k, l) of
the orthonormal two-dimensional DCT-II of an H x W picture by

    c_kl = exp(-w^2/2 ((pi k/H)^2 + (pi l/W)^2))

Two blurs in a row are one, w^2 = w_1^2 + w_2^2, exactly. Alone it is the blur of cold diffusion (Bansal et al. 2022,
arXiv 2208.09392, Sec. 4.1), whose equal kernels, one at each step, make w^2 grow evenly in time. With noise it is
C_t of soft diffusion (Daras et al. 2022, arXiv 2209.05442, Eq. 4), x_t = C_t x_0 + s_t eta, along any `Path` of widths
and noise levels; `processes.shortest_path` finds a good one. Widths are shares of the picture's shorter side, so that
one process serves every size.
Book: chapter 4, "Without noise".
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import final

import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.process import Degradation


@lru_cache(maxsize=32)
def cosines(n: int) -> Tensor:
    """The orthonormal DCT-II, [n, n] float64: row k is sqrt(2/n) cos(pi k (j + 1/2)/n), row 0 even, 1/sqrt(n)."""
    k = torch.arange(n, dtype=torch.float64)
    rows = torch.cos(math.pi / n * k[:, None] * (k + 0.5)) * math.sqrt(2 / n)
    rows[0] = 1 / math.sqrt(n)
    return rows


def spectrum(width: Tensor, height: int, breadth: int) -> Tensor:
    """c_kl [..., H, W] of blurs of deviations `width` [...], in pixels."""
    k, j = (torch.arange(n, dtype=torch.float64, device=width.device) * (math.pi / n) for n in (height, breadth))
    return torch.exp(width[..., None, None] ** 2 * (k[:, None] ** 2 + j**2) / -2)


class Blurring(Degradation):
    """Blur whose deviation is `width(t)`, as a share of the shorter side of a picture [B, C, H, W]."""

    @abstractmethod
    def width(self, t: Tensor) -> Tensor:
        """The deviation at `t`; 0 at t = 0, never falling."""

    @final
    def signal(self, x0: Tensor, t: Tensor) -> Tensor:
        """C_t x_0."""
        h, w = x0.shape[-2:]
        c = spectrum(self.width(t) * min(h, w), h, w)  # [H, W] or [B, H, W]
        c = (c[:, None] if c.ndim == 3 else c).to(x0)
        with torch.autocast(x0.device.type, enabled=False):  # in half precision it would lose what it shall keep
            v, u = cosines(h).to(x0), cosines(w).to(x0)
            return v.T @ (c * (v @ x0 @ u.T)) @ u  # [B, C, H, W]


@final
@dataclass(frozen=True)
class Blur(Blurring):
    """Cold blur: w^2 = t most^2. `most`: the last deviation as a share of the shorter side."""

    most: float = 0.5

    def width(self, t: Tensor) -> Tensor:
        return self.most * t.sqrt()


@dataclass(frozen=True)
class Path:
    """Widths of a blur and noise levels, each at even times from 0 to 1 and straight between them.

    Both begin with 0 and never fall. `widths` are shares of the picture's shorter side.
    """

    widths: tuple[float, ...]
    sigmas: tuple[float, ...]

    def __post_init__(self) -> None:
        for name, values in (("widths", self.widths), ("sigmas", self.sigmas)):
            falls = any(b < a for a, b in pairwise(values))
            if len(values) < 2 or len(self.widths) != len(self.sigmas) or values[0] != 0.0 or falls:
                raise UsageError(
                    f"The {name} of a path begin with 0, never fall, and are as many as its noise levels, at least 2; "
                    f"found {len(values)} from {values[0] if values else 'nothing'}."
                )


@final
@dataclass(frozen=True)
class BlurNoise(Blurring):
    """Soft diffusion's blur with noise along `path`; clean at t = 0."""

    path: Path

    def width(self, t: Tensor) -> Tensor:
        return _between(self.path.widths, t)

    def sigma(self, t: Tensor) -> Tensor:
        return _between(self.path.sigmas, t)


def _between(values: tuple[float, ...], t: Tensor) -> Tensor:
    """The value at `t` of the line through `values` at even times."""
    table = _table(values).to(t)
    u = (t * (len(values) - 1)).clamp(0, len(values) - 1)
    k = u.floor().long().clamp(max=len(values) - 2)
    return torch.lerp(table[k], table[k + 1], u - k)


@lru_cache(maxsize=32)
def _table(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
