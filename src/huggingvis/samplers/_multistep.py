"""A step by the polynomial through several values: what predictors and correctors of any order are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from huggingvis.core.noise import Noise
from huggingvis.core.shapes import mixed, plus
from huggingvis.samplers._exponential import weights
from huggingvis.samplers._levels import Levels


class Form(Protocol):
    """What is integrated, and the linear part that goes with it; h is the step in half log-SNR."""

    def value(self, x: Tensor, x0: Tensor, c: Levels) -> Tensor:
        """m at the start of the step."""
        ...

    def decay(self, c: Levels, h: float) -> float:
        """The factor of x_t."""
        ...

    def integrals(self, c: Levels, h: float, n: int) -> tuple[float, ...]:
        """Those of u^k, k = 0..n-1, with the factor before them."""
        ...

    def rate(self, c: Levels) -> float:
        """What counts of m at the end of the step, per h: the integral of 1 is about h times this."""
        ...

    def spread(self, c: Levels, h: float) -> float:
        """Standard deviation of the fresh noise."""
        ...


def moved(
    form: Form, x: Tensor, c: Levels, h: float, nodes: Sequence[tuple[Tensor, float]], area: float | None = None
) -> Tensor:
    """x_s without its fresh noise, by the polynomial through `nodes` (m, u), the first of them at u = 0.

    `area`: what two nodes take for the integral of 1 when half of it weighs their slope; none: the integral of u does.
    """
    integrals = form.integrals(c, h, len(nodes))
    if area is not None and len(nodes) == 2:
        slope = area / (2 * nodes[1][1])
        share: tuple[float, ...] = (integrals[0] - slope, slope)
    else:
        share = weights([u for _, u in nodes], integrals)
    out = form.decay(c, h) * x
    for (m, _), w in zip(nodes, share, strict=True):
        out = plus(out, w, m)
    return out


def from_pure_noise(form: Form, x: Tensor, x0: Tensor, c: Levels, noise: Noise) -> Tensor:
    """A step from where there is no slope to be told: the belief, and noise of the new level, old or fresh."""
    fresh = c.s_s if form.spread(c, 1.0) > 0.0 else 0.0
    old = math.sqrt(max(c.s_s**2 - fresh**2, 0.0)) / c.s_t
    out = mixed(c.a_s - c.a_t * old, x0, old, x)
    return plus(out, fresh, noise.draw(x)) if fresh > 0.0 else out
