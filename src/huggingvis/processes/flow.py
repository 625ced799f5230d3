r"""Rectified flow: the straight line from datum to noise, or to a datum with a little noise.

Liu, Gong, Liu 2022, arXiv 2209.03003, Eq. 1; Lipman et al. 2022, arXiv 2210.02747, Eq. 20-22, the conditional optimal
transport path, whose data keep noise of the size sigma_min. Here t = 0 is the datum, as everywhere in the library, so
time runs against those papers:

    x_t = (1 - t) x_0 + (t + sigma_min (1 - t)) eps,      velocity u = (1 - sigma_min) eps - x_0

Book: chapter 4, "Processes".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.process import Process


@final
@dataclass(frozen=True)
class RectifiedFlow(Process):
    """alpha = 1 - t, sigma = t + sigma_min (1 - t). Networks are told `clock_scale * t`: 1 for ours, 1000 for SD3, Flux
    and their kin. Raises `UsageError` unless 0 <= sigma_min < 1.
    """

    clock_scale: float = 1.0
    sigma_min: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.sigma_min < 1.0:
            raise UsageError(
                f"The noise that a flow leaves in its data, sigma_min, is at least 0 and below 1; found "
                f"{self.sigma_min:g}. It is 0 for rectified flow."
            )

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t + self.sigma_min * (1 - t)

    def t_of_logsnr(self, lam: Tensor) -> Tensor:
        """log((1 - t)^2/sigma^2) = lambda gives t = (s - m)/(1 - m), s = sigmoid(-lambda/2), m = sigma_min (1 - s).

        That is t = s for sigma_min = 0.
        """
        s = torch.sigmoid(-lam / 2)
        kept = self.sigma_min * (1 - s)
        return (s - kept) / (1 - kept)

    def derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -torch.ones_like(t), torch.full_like(t, 1 - self.sigma_min)

    def clock(self, t: Tensor) -> Tensor:
        return t * self.clock_scale
