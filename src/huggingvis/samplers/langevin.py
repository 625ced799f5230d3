r"""Langevin dynamics: annealed through noise levels (NCSN), and as the corrector behind any other sampler.

Annealed: Song & Ermon 2019, arXiv 1907.05600, Algorithm 1; 2020, arXiv 2006.09011, Algorithm 3. At every level of the
grid, in y = x/alpha with rho = sigma/alpha (on VE simply x and sigma), a number of updates

    y <- y + eta rho^2 score(y) + sqrt(2 eta) rho z,        rho^2 score(y) = x_0 - y

then on to the next level without a change of y. Their eps and alpha_i = eps sigma_i^2/sigma_L^2 are eta = eps/sigma_L^2
of the second paper, half of that of the first, whose update has alpha_i/2. `best_step` is the second paper's choice
(Technique 4): where gamma is the ratio of two levels and there are T updates, the one that brings

    (1 - eta)^(2T) (gamma^2 - 2/(2 - eta)) + 2/(2 - eta)

closest to 1, which is the share of the variance that a level should have. The last step is to the posterior mean (their
Sec. 3.4, after Jolicoeur-Martineau et al. 2020, arXiv 2009.05475).

Corrector: Song et al. 2020, arXiv 2011.13456, Algorithms 1-5: after each step of the predictor, at the level it came
to, x <- x + e score + sqrt(2 e) z with e = 2 a (r |z|/|score|)^2, where a = (alpha_t/alpha_s)^2 (1 - beta of a table,
1 on VE). In many dimensions |z|/|score| is sigma. Book: chapter 4, "Score SDE".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import final

import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.noise import Noise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Bound
from huggingvis.core.sampler import Sampler, State
from huggingvis.core.shapes import expand
from huggingvis.samplers._levels import clean, euler, levels


@final
@dataclass(frozen=True)
class AnnealedLangevin(Sampler):
    """Annealed Langevin dynamics: `updates` at every level of the grid.

    `size`: eta, in (0, 1); none: `best_step` for the ratio to the level before. NCSN's own numbers are 100 updates of
    0.1 at ten levels. `denoise`: end at the posterior mean; else where the last updates left x.
    """

    updates: int = 5
    size: float | None = None
    denoise: bool = True
    order = 1

    def __post_init__(self) -> None:
        if self.updates < 1 or not (self.size is None or 0 < self.size < 1):
            raise UsageError(
                f"Langevin dynamics needs at least one update of a size between 0 and 1, found {self.updates} of size "
                f"{self.size}. NCSN's are 100 of 0.1; leave the size out to have it chosen."
            )

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        """`state` is the ratio of the level before to this one."""
        c = levels(process, t, s)
        if c.blind:  # noise alone has its law already, and no score to be told
            return euler(x, clean(denoise(x, t)), c), None
        gamma = c.s_t * c.a_s / (c.a_t * c.s_s) if c.s_s > 0.0 else math.inf
        eta = self.size if self.size is not None else best_step(state or gamma, self.updates)
        for _ in range(self.updates if eta > 0.0 else 0):
            x = x + eta * (c.a_t * clean(denoise(x, t)) - x) + (math.sqrt(2 * eta) * c.s_t) * noise.draw(x)
        if c.s_s == 0.0 and self.denoise:
            return clean(denoise(x, t)), None
        return (c.a_s / c.a_t) * x, gamma


@lru_cache(maxsize=4096)
def best_step(gamma: float, updates: int) -> float:
    """eta in (0, 1) for levels that fall by the factor `gamma` with `updates` at each (arXiv 2006.09011, Technique 4).

    0 for a ratio that is infinite: nothing is known of the level before.
    """
    if math.isinf(gamma):
        return 0.0
    eta = torch.logspace(-6, 0, 60_001, dtype=torch.float64)[:-1]
    kept, still = (1 - eta) ** (2 * updates), 2 / (2 - eta)
    return float(eta[(kept * (gamma**2 - still) + still - 1).abs().argmin()])


@final
@dataclass(frozen=True)
class PredictorCorrector(Sampler):
    """Any sampler as `predictor`, then `corrections` of Langevin dynamics with signal-to-noise ratio `snr`.

    `norms`: measure |z| and |score| of every sample, as the algorithm is written (its authors' code takes the means of
    a batch); else take what they are in many dimensions, sqrt(D) and sqrt(D)/sigma. Measured, the step depends on z and
    on where x is, and even infinitely small steps no longer leave p as it is: of N(0, V I) they make a law with
    |x|^2 ~ Gamma(D/2 + 1, rate D/(2 (D + 2) V)), whose mean is (1 + 2/D)^2 too large: 4 times for D = 2, 0.13 % for
    pictures of 3 x 32 x 32. So few dimensions want `norms=False`.
    """

    predictor: Sampler
    snr: float = 0.16
    corrections: int = 1
    norms: bool = True

    def __post_init__(self) -> None:
        if self.corrections < 0 or self.snr <= 0:
            raise UsageError(
                f"A corrector makes 0 or more updates of a positive signal-to-noise ratio, found {self.corrections} "
                f"of {self.snr}. Its authors use one of 0.16 on VE and of 0.01 on VP."
            )

    @property
    def order(self) -> int:  # type: ignore[override]
        """The predictor's without corrections, else 1."""
        return self.predictor.order if self.corrections == 0 else 1

    def init(self) -> State:
        return self.predictor.init()

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        x, state = self.predictor.step(denoise, process, x, t, s, state, noise)
        c = levels(process, t, s)
        share = 2 * self.snr**2 * (c.a_t / c.a_s) ** 2
        for _ in range(self.corrections if c.s_s > 0.0 else 0):
            score = process.score(x, clean(denoise(x, s)), s)  # [B, ...]
            z = noise.draw(x)
            size = torch.full((), share * c.s_s**2, dtype=torch.float64)
            if self.norms:
                size = share * (z.flatten(1).norm(dim=1) / score.flatten(1).norm(dim=1).clamp(min=1e-12)) ** 2  # [B]
            x = x + expand(size, x) * score + expand((2 * size).sqrt(), x) * z
        return x, state
