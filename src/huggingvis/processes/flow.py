r"""Rectified flow: the straight line from datum to noise.

Liu, Gong, Liu 2022, arXiv 2209.03003, Eq. 1; Lipman et al. 2022, arXiv 2210.02747, Sec. 4.1 (with sigma_min = 0).
Here t = 0 is the datum, as everywhere in the library, so time runs against those papers:

    x_t = (1 - t) x_0 + t eps,      velocity u = eps - x_0

Book: chapter 4, "Processes".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from huggingvis.core.process import Process


@final
@dataclass(frozen=True)
class RectifiedFlow(Process):
    """alpha = 1 - t, sigma = t. Networks are told `clock_scale * t`: 1 for ours, 1000 for SD3, Flux and their kin."""

    clock_scale: float = 1.0

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t.clone()

    def t_of_logsnr(self, lam: Tensor) -> Tensor:
        """log((1 - t)^2/t^2) = lambda gives t = sigmoid(-lambda/2)."""
        return torch.sigmoid(-lam / 2)

    def derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -torch.ones_like(t), torch.ones_like(t)

    def clock(self, t: Tensor) -> Tensor:
        return t * self.clock_scale
