r"""What else cold diffusion takes away without noise: masks, resolution, colour, everything evenly.

Bansal et al. 2022, arXiv 2208.09392: inpainting, Sec. 4.2 (masks whose Gaussian hole grows, one after another);
super-resolution, Sec. 4.3 (each step halves the resolution and goes back to the full size by repeating pixels);
colourisation, as in their code (towards grey). All keep more the earlier the time, and take pictures [B, C, H, W] of
any size; blur is in `processes.blur`. Book: chapter 4, "Without noise".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from huggingvis.core.process import Degradation
from huggingvis.core.shapes import expand

_LUMA = (0.299, 0.587, 0.114)


@final
@dataclass(frozen=True)
class Mask(Degradation):
    """A hole that grows from the middle: the product of 1 - exp(-r^2/(2 b_i^2)) over the steps i up to t.

    b_1 = `least` and each next one is larger by `growth`, in shares of the shorter side; `steps` of them at t = 1.
    What is taken becomes 0, mid-grey. Between two steps the logarithm of the mask is straight in t.
    """

    least: float = 1 / 28
    growth: float = 0.1 / 28
    steps: int = 50

    def signal(self, x0: Tensor, t: Tensor) -> Tensor:
        h, w = x0.shape[-2:]
        logs = _mask_logs(self, h, w).to(t.device)  # [T+1, H, W]
        u = (t * self.steps).clamp(0, self.steps)
        k = u.floor().long().clamp(max=self.steps - 1)
        part = (u - k)[..., None, None]
        mask = torch.exp(logs[k] + part * (logs[k + 1] - logs[k])).to(x0)  # [H, W] or [B, H, W]
        return (mask[:, None] if mask.ndim == 3 else mask) * x0


@lru_cache(maxsize=8)
def _mask_logs(mask: Mask, height: int, breadth: int) -> Tensor:
    """Logarithms of the masks after 0, 1 ... steps, [T+1, H, W]; float32 has no smaller numbers than exp(-87)."""
    y, x = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in (height, breadth))
    r2 = y[:, None] ** 2 + x**2  # [H, W]
    holes = (mask.least + mask.growth * torch.arange(mask.steps, dtype=torch.float64)) * min(height, breadth)
    each = torch.log(-torch.expm1(-r2 / (2 * holes[:, None, None] ** 2))).clamp(min=-80.0)
    return torch.cat([torch.zeros(1, height, breadth, dtype=torch.float64), each.cumsum(0).clamp(min=-80.0)])


@final
@dataclass(frozen=True)
class Pixelate(Degradation):
    """Means over squares of 2, 4, 8 ... pixels, until at most `cells` squares fill the shorter side.

    Between two resolutions the picture goes straight from the one to the other. Squares are cut at the lower and the
    right border where the size is no multiple of theirs.
    """

    cells: int = 4

    def signal(self, x0: Tensor, t: Tensor) -> Tensor:
        halvings = max(1, math.ceil(math.log2(min(x0.shape[-2:]) / self.cells)))
        u = t * halvings
        share = [expand((1 - (u - j).abs()).clamp(min=0), x0) for j in range(halvings + 1)]  # sums to 1
        out = share[0] * x0
        for j in range(1, halvings + 1):
            out = out + share[j] * _squares(x0, 2**j)
        return out


def _squares(x: Tensor, side: int) -> Tensor:
    """`x` with every square of `side` pixels replaced by its mean."""
    h, w = x.shape[-2:]
    means = F.avg_pool2d(x, side, ceil_mode=True)
    return means.repeat_interleave(side, -2)[..., :h, :].repeat_interleave(side, -1)[..., :w]


@final
@dataclass(frozen=True)
class Fade(Degradation):
    """(1 - t) x_0 + t `level`: towards one brightness, where nothing is left."""

    level: float = 0.0

    def signal(self, x0: Tensor, t: Tensor) -> Tensor:
        return x0 + expand(t, x0) * (self.level - x0)


@final
@dataclass(frozen=True)
class Decolour(Degradation):
    """(1 - t) x_0 + t grey(x_0), by the luma of ITU-R BT.601. Takes nothing from pictures without colours."""

    def signal(self, x0: Tensor, t: Tensor) -> Tensor:
        if x0.shape[1] == 1:
            return x0
        grey = (x0 * x0.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)  # [B, 1, H, W]
        return x0 + expand(t, x0) * (grey - x0)
