r"""The variance of a reverse step p(x_s | x_t): what is fixed, what is told by the model, what is fitted to it.

With beta = sigma_t^2 - (alpha_t/alpha_s)^2 sigma_s^2, beta-tilde = beta sigma_s^2/sigma_t^2 and the weight
g = alpha_s beta/sigma_t^2 of x_0 in the mean of q(x_s | x_t, x_0), the law of total variance gives

    Var[x_s | x_t] = beta-tilde + g^2 Var[x_0 | x_t]

so beta-tilde is right for one point and beta for white noise of unit variance on a variance-preserving process (Ho,
Jain, Abbeel 2020, arXiv 2006.11239, Sec. 3.2), and what lies between depends on the data (Nichol & Dhariwal 2021, arXiv
2102.09672, Eq. 15; Bao, Li, Zhu, Zhang 2022, arXiv 2201.06503, Theorem 1, for which see `samplers.analytic`).
Book: chapter 4, "Improved DDPM".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from huggingvis.core.belief import Gaussian
from huggingvis.samplers._levels import Levels


class Variance(ABC):
    """The variance of x_s given x_t."""

    @abstractmethod
    def __call__(self, c: Levels, t: Tensor, belief: Gaussian) -> float | Tensor:
        """For the step with coefficients `c` from `t`, where `belief` is held: one number, or one for each of x."""


@final
@dataclass(frozen=True)
class Between(Variance):
    """beta^v beta-tilde^(1 - v): `v` = 0 for beta-tilde, 1 for beta."""

    v: float = 0.0

    def __call__(self, c: Levels, t: Tensor, belief: Gaussian) -> float | Tensor:
        return c.fresh * c.kept ** (1 - self.v)


BETA_TILDE = Between(0.0)
"""beta-tilde, diffusers' `fixed_small`."""

BETA = Between(1.0)
"""beta, diffusers' `fixed_large`."""


@final
@dataclass(frozen=True)
class Told(Variance):
    """What the model tells: from its `v` or its `logvar` for each value; `otherwise` where it tells neither."""

    otherwise: Variance = BETA_TILDE

    def __call__(self, c: Levels, t: Tensor, belief: Gaussian) -> float | Tensor:
        if belief.v is not None:
            return c.fresh * c.kept ** (1 - belief.v)
        if belief.logvar is not None:
            return c.fresh * c.kept + c.pull**2 * torch.exp(belief.logvar)
        return self.otherwise(c, t, belief)
