r"""The sub-VP process: the signal falls as in the VP-SDE, the variance stays below it at every time.

Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole 2020, arXiv 2011.13456, Eq. 27-29: the same drift with the diffusion
sqrt(beta(t) (1 - alpha^4)) has the marginal

    alpha(t) = that of the VP-SDE (Eq. 33),        sigma(t) = 1 - alpha(t)^2

With rho = sigma/alpha = 1/alpha - alpha = 2 sinh(-log alpha), log-SNR is inverted in closed form. Book: chapter 4,
"Processes".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from huggingvis.core.process import Process
from huggingvis.processes.vp import LinearVP


@final
@dataclass(frozen=True)
class SubVP(Process):
    """The sub-VP-SDE with linear beta (Song et al. 2020). Networks are told `clock_scale * t`."""

    beta_min: float = 0.1
    beta_max: float = 20.0
    clock_scale: float = 1.0

    @property
    def _vp(self) -> LinearVP:
        return LinearVP(self.beta_min, self.beta_max, self.clock_scale)

    def alpha(self, t: Tensor) -> Tensor:
        return self._vp.alpha(t)

    def sigma(self, t: Tensor) -> Tensor:
        """The variance of the VP-SDE is the deviation of this one."""
        return self._vp.sigma(t) ** 2

    def t_of_logsnr(self, lam: Tensor) -> Tensor:
        """-log alpha = asinh(rho/2)."""
        return self._vp.t_of_drop(torch.asinh(torch.exp(-lam / 2) / 2))

    def derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha' = -beta alpha/2 and sigma' = -2 alpha alpha', both finite everywhere."""
        a, da = self.alpha(t), self._vp.derivatives(t)[0]
        return da, -2 * a * da

    def clock(self, t: Tensor) -> Tensor:
        return self._vp.clock(t)
