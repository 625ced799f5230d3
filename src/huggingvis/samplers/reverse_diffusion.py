r"""The reverse-time SDE in steps: the reverse-diffusion predictor and Euler-Maruyama.

Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole 2020, arXiv 2011.13456. Reverse diffusion (Eq. 46) reads off the
forward chain what drift and diffusion are: with r = alpha_t/alpha_s and b = sigma_t^2 - r^2 sigma_s^2, the variance
added between s and t,

    x_s = (2 - r) x_t + b score(x_t) + sqrt(b) z

which on a table is their Algorithm 3 (r = sqrt(1 - beta), b = beta) and on VE their Algorithm 2 (r = 1). Euler-Maruyama
(Eq. 6) discretises the SDE itself, with f = alpha'/alpha and g^2 = (sigma^2)' - 2 f sigma^2:

    x_s = x_t - (f x_t - g^2 score(x_t)) (t - s) + g sqrt(t - s) z

A step to clean data adds no noise and is the posterior mean (Tweedie's formula; their App. G says why it matters). From
pure noise, where f is infinite, both take the first-order step that every sampler takes. Book: chapter 4, "Score SDE".
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
from huggingvis.samplers._levels import clean, euler, levels


@final
@dataclass(frozen=True)
class ReverseDiffusion(Sampler):
    """The reverse-diffusion predictor."""

    order = 1

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        x0 = clean(denoise(x, t))  # [B, ...]
        c = levels(process, t, s)
        if c.s_s == 0.0 or c.blind:
            return euler(x, x0, c), state
        b = c.fresh
        pull = b / c.s_t**2  # b score = pull (alpha_t x_0 - x)
        mean = (2 - c.a_t / c.a_s - pull) * x + (pull * c.a_t) * x0  # [B, ...]
        return mean + math.sqrt(b) * noise.draw(x), state


@final
@dataclass(frozen=True)
class EulerMaruyama(Sampler):
    """Euler-Maruyama on the reverse-time SDE: of weak order 1 in the step of time."""

    order = 1

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        x0 = clean(denoise(x, t))  # [B, ...]
        c = levels(process, t, s)
        if c.s_s == 0.0 or c.blind:
            return euler(x, x0, c), state
        da, ds = (float(d) for d in process.derivatives(t))
        h, f = float(t - s), da / c.a_t
        g2 = max(2 * c.s_t * (ds - f * c.s_t), 0.0)
        pull = h * g2 / c.s_t**2  # h g^2 score = pull (alpha_t x_0 - x)
        mean = (1 - h * f - pull) * x + (pull * c.a_t) * x0  # [B, ...]
        return mean + math.sqrt(g2 * h) * noise.draw(x), state
