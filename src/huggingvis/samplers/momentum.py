r"""Samplers that read no more of a process than what it leaves of a datum, D(x_0, t), and its noise sigma(t).

So they run on everything, alpha(t) x_0 as well as blur and masks. With the belief x_0 at (x_t, t) one step is

    x_s = D(x_0, s) + keep (x_t - D(x_0, t)) + std z

    Naive          keep = 0,                    std = sigma_s
    Momentum       keep = sigma_s^2/sigma_t^2,  std = sqrt(sigma_t^2 - sigma_s^2)
    its ODE        keep = sigma_s/sigma_t,      std = 0

Naive is Algorithm 1 of Bansal et al. 2022 (cold diffusion, arXiv 2208.09392) and of Daras et al. 2022 (soft diffusion,
arXiv 2209.05442): all that was known of x_t besides the belief is thrown away. Momentum is the latter's Algorithm 2: a
step against the noise along the score (D(x_0, t) - x_t)/sigma_t^2, and one of D, D(x_0, s) - D(x_0, t). Where there is
no noise keep is 1, and that is the former's Algorithm 2,

    x_s = x_t - D(x_0, t) + D(x_0, s)

which is exact whatever is believed if D(x, t) = x + t e. Where alpha = 1 it is the reverse-diffusion predictor of the
VE-SDE (Song et al. 2020, arXiv 2011.13456, Algorithm 2); on any process it is one of the SDEs that share the marginals,
and its ODE the probability flow, DDIM's step. One step of Naive from t to 0 is the direct reconstruction.
Book: chapter 4, "Without noise".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from torch import Tensor

from huggingvis.core.noise import Noise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Bound
from huggingvis.core.sampler import Sampler, State
from huggingvis.samplers._levels import clean


@final
@dataclass(frozen=True)
class Naive(Sampler):
    """Degrades the belief again, a little less. Not a consistent solver: more steps do not make it exact."""

    order = 1
    plain = True

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        x = process.signal(clean(denoise(x, t)), s)  # [B, ...]
        std = float(process.sigma(s))
        return (x + std * noise.draw(x) if std > 0.0 else x), state


@final
@dataclass(frozen=True)
class Momentum(Sampler):
    """The momentum sampler; without noise in the process, cold diffusion's. `fresh`: draw noise, or solve the ODE.

    A step from noise to a time without it ends at what the process leaves of the belief there.
    """

    fresh: bool = True
    order = 1
    plain = True

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        x0 = clean(denoise(x, t))  # [B, ...]
        before, after = float(process.sigma(t)), float(process.sigma(s))
        keep = after / before if before > 0.0 else 1.0
        std = math.sqrt(max(before**2 - after**2, 0.0)) if self.fresh and after > 0.0 else 0.0
        if self.fresh:
            keep *= keep
        x = process.signal(x0, s) + keep * (x - process.signal(x0, t))  # [B, ...]
        return (x + std * noise.draw(x) if std > 0.0 else x), state
