"""What every sampler reads before it steps: the four coefficients as plain floats, and the mean of a belief.

Coefficients of a step are combined in Python floats (float64) and meet the batch once, as scalars: exact, and no
tensor of one number is made or moved.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from huggingvis.core.belief import Belief, Gaussian
from huggingvis.core.errors import UsageError
from huggingvis.core.levels import BLIND
from huggingvis.core.process import Process
from huggingvis.core.shapes import mixed


class Levels(NamedTuple):
    """alpha and sigma at the start `t` and at the end `s` of a step."""

    a_t: float
    s_t: float
    a_s: float
    s_s: float

    @property
    def fresh(self) -> float:
        """Variance that the forward process adds between s and t: sigma_t^2 - (alpha_t/alpha_s)^2 sigma_s^2."""
        return max(self.s_t**2 - (self.a_t / self.a_s * self.s_s) ** 2, 0.0)

    @property
    def kept(self) -> float:
        """sigma_s^2/sigma_t^2: what is left of the noise, and beta-tilde as a share of beta."""
        return self.s_s**2 / self.s_t**2

    @property
    def pull(self) -> float:
        """Weight of x_0 in the mean of q(x_s | x_t, x_0): alpha_s fresh/sigma_t^2."""
        return self.a_s * self.fresh / self.s_t**2

    @property
    def blind(self) -> bool:
        """Whether the step starts from pure noise, up to rounding: there is no slope to be told from there."""
        return self.a_t <= BLIND * self.s_t


def levels(process: Process, t: Tensor, s: Tensor) -> Levels:
    """The coefficients of a step from `t` to `s`, both 0-dim. A process of several parts is refused: see `sample`."""
    if process.pace is not process:
        raise UsageError(
            "The components of this process have different noise levels at one time, so a single step is taken in each "
            "of its parts: sample with `core.sample.sample`, or wrap the sampler in `core.components.Lockstep`."
        )
    return Levels(*process.level_at(t), *process.level_at(s))


def half_log_snr(alpha: float, sigma: float) -> float:
    """log(alpha/sigma); plus infinity where clean, minus infinity where pure noise."""
    if sigma == 0.0:
        return math.inf
    return math.log(alpha / sigma) if alpha > 0.0 else -math.inf


def euler(x: Tensor, x0: Tensor, c: Levels) -> Tensor:
    """The first-order step everyone agrees on, also from pure noise: alpha_s x_0 + sigma_s eps (DDIM's at eta = 0)."""
    old = c.s_s / c.s_t
    return mixed(c.a_s - c.a_t * old, x0, old, x)


def continuous(belief: Belief) -> Gaussian:
    """A belief that is one about a continuous datum."""
    if not isinstance(belief, Gaussian):
        raise TypeError(f"this sampler integrates beliefs about continuous data, found {type(belief).__name__}")
    return belief


def clean(belief: Belief) -> Tensor:
    """The mean of a belief about a continuous datum [B, ...]."""
    return continuous(belief).x0
