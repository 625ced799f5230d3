r"""Keeping the believed picture inside the range of pictures.

Static: clip x_0 to [-limit, limit], as DDPM's samplers do (Ho, Jain, Abbeel 2020, arXiv 2006.11239). Dynamic: Saharia
et al. 2022, arXiv 2205.11487, Sec. 2.3: clip at s, a high percentile of |x_0| but at least 1, and divide by s.
Book: chapter 4, "Guidance".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from huggingvis.core.belief import Belief, Gaussian
from huggingvis.core.protocols import Cond, Denoiser


@final
@dataclass(frozen=True)
class Clip:
    """x_0 clipped to [-limit, limit]; the samplers then derive the noise from the clipped datum."""

    limit: float = 1.0

    def __call__(self, denoise: Denoiser) -> Denoiser:
        return _keeping(denoise, self.kept)

    def kept(self, x0: Tensor) -> Tensor:
        """A believed datum [B, ...] within the range."""
        return x0.clamp(-self.limit, self.limit)


@final
@dataclass(frozen=True)
class DynamicThreshold:
    """Imagen's dynamic thresholding: per sample, s = max(1, `quantile` of |x_0|), capped at `most`."""

    quantile: float = 0.995
    most: float = float("inf")

    def __call__(self, denoise: Denoiser) -> Denoiser:
        return _keeping(denoise, self.kept)

    def kept(self, x0: Tensor) -> Tensor:
        """A believed datum [B, ...] within the range."""
        sizes = x0.flatten(1).abs()  # [B, N]
        s = torch.stack([torch.quantile(row, self.quantile) for row in sizes])  # one by one: it takes 2^24 numbers
        s = s.clamp(1.0, max(1.0, self.most))  # [B]
        s = s.reshape(-1, *[1] * (x0.ndim - 1))  # [B, 1, ...]
        return x0.clamp(-s, s) / s


def _keeping(denoise: Denoiser, kept: Callable[[Tensor], Tensor]) -> Denoiser:
    """`denoise`, of whose belief x_0 is `kept`."""

    def within(x: Tensor, t: Tensor, cond: Cond) -> Belief:
        belief = denoise(x, t, cond)
        if not isinstance(belief, Gaussian):
            raise TypeError(f"thresholds act on beliefs about continuous data, found {type(belief).__name__}")
        return replace(belief, x0=kept(belief.x0))

    return within
