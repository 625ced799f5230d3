r"""Ancestral sampling: walk the Markov chain of the forward process backwards.

Ho, Jain, Abbeel 2020, arXiv 2006.11239, Eq. 6-7, for any two times s < t of any process. With r = alpha_t/alpha_s and
b = sigma_t^2 - r^2 sigma_s^2, the variance added between s and t (their beta_t),

    x_s ~ N( alpha_s b/sigma_t^2 x_0  +  r sigma_s^2/sigma_t^2 x_t,   b^v (b sigma_s^2/sigma_t^2)^(1-v) )

v interpolates the two variances of their Sec. 3.2 in the logarithm, as in Nichol & Dhariwal 2021, arXiv 2102.09672,
Eq. 15: v = 0 is beta-tilde, v = 1 is beta. Book: chapter 4, "DDPM".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from torch import Tensor

from huggingvis.core.noise import Noise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Bound
from huggingvis.core.sample import Sampler, State
from huggingvis.samplers._levels import clean, levels


@final
@dataclass(frozen=True)
class Ancestral(Sampler):
    """DDPM's sampler. `v`: 0 for the variance beta-tilde, 1 for beta. The last step, to a clean time, adds no noise."""

    v: float = 0.0
    order = 1

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        x0 = clean(denoise(x, t))  # [B, ...]
        c = levels(process, t, s)
        b = c.fresh
        kept = c.s_s**2 / c.s_t**2
        mean = (c.a_s * b / c.s_t**2) * x0 + (c.a_t / c.a_s * kept) * x  # [B, ...]
        if c.s_s == 0.0:
            return mean, state
        std = math.sqrt(b * kept ** (1 - self.v))
        return mean + std * noise.draw(x), state
