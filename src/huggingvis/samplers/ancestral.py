r"""Ancestral sampling: walk the Markov chain of the forward process backwards.

Ho, Jain, Abbeel 2020, arXiv 2006.11239, Eq. 6-7, for any two times s < t of any process. With r = alpha_t/alpha_s and
b = sigma_t^2 - r^2 sigma_s^2, the variance added between s and t (their beta_t),

    x_s ~ N( alpha_s b/sigma_t^2 x_0  +  r sigma_s^2/sigma_t^2 x_t,   Sigma )

What Sigma may be is in `samplers.variances`. Book: chapter 4, "DDPM".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from huggingvis.core.noise import Noise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Bound
from huggingvis.core.sampler import Sampler, State
from huggingvis.core.shapes import mixed
from huggingvis.samplers._levels import continuous, levels
from huggingvis.samplers.variances import Told, Variance


@final
@dataclass(frozen=True)
class Ancestral(Sampler):
    """DDPM's sampler. `variance` of a step: what the model tells, beta-tilde if it tells nothing.

    The last step, to a clean time, adds no noise.
    """

    variance: Variance = Told()
    order = 1

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        belief = continuous(denoise(x, t))
        c = levels(process, t, s)
        mean = mixed(c.pull, belief.x0, c.a_t / c.a_s * c.kept, x)  # [B, ...]
        if c.s_s == 0.0:
            return mean, state
        return mean + self.variance(c, t, belief) ** 0.5 * noise.draw(x), state
