r"""SA-Solver: Adams' methods for the diffusion SDE, a predictor and a corrector that share one draw of noise.

Xue, Yi, Luo, Zhang, Sun, Li, Ma 2023, arXiv 2309.05019. Every tau(t) >= 0 gives an SDE with the same marginals (their
Prop. 4.1), from the probability-flow ODE, 0, to the reverse SDE, 1, and beyond. With tau constant over a step and
eta = tau^2 it is solved as `_exponential` says, what is integrated being a polynomial through the last values (Eq. 14,
the SA-Predictor); the next call happens at its end, and before going on x is made again with that value as one more
node and the same noise (Eq. 17, the SA-Corrector). The value is kept, not asked for again, so a step is one call. With
tau = 0 it is `unipc.UniPC`. In the authors' program, and in diffusers' SASolverScheduler, two nodes weigh their slope
in the middle of the step (`midpoint`) where beliefs are about the datum. Book: chapter 4, "Predict and correct".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, final

from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.noise import Noise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Bound
from huggingvis.core.sampler import Sampler, State
from huggingvis.samplers._levels import Levels, clean, half_log_snr, levels
from huggingvis.samplers._multistep import Form, from_pure_noise, moved
from huggingvis.samplers.dpm_solver import OfData


@final
@dataclass(frozen=True)
class Tau:
    """tau(t) = `value` for `low` <= t <= `high`, else 0: the authors' choice, with fresh noise in the middle alone."""

    value: float = 1.0
    low: float = 0.2
    high: float = 0.8

    def __post_init__(self) -> None:
        if self.value < 0:
            raise UsageError(f"tau, the strength of the fresh noise, is not negative; found {self.value:g}.")

    def __call__(self, t: float) -> float:
        return self.value if self.low <= t <= self.high else 0.0


class _Past(NamedTuple):
    """The step before: its start, levels, form, how many nodes corrected it, and its noise with its spread.

    `values`: (m, lambda) of its start and of the starts before it, newest first.
    """

    x: Tensor
    levels: Levels
    form: Form
    nodes: int
    fresh: Tensor | None
    values: tuple[tuple[Tensor, float], ...]


@final
@dataclass(frozen=True)
class SASolver(Sampler):
    """SA-Solver with `predictor` nodes (1 to 4) and `corrector` nodes (their new one included; 0: no corrector).

    `tau`: of a step's start. `form`: of eta = tau^2, `OfData` or `OfNoise`. `first_below`, `second_below`: steps that
    end at such a time or before it predict with one node, at most two.
    """

    predictor: int = 2
    corrector: int = 2
    tau: Callable[[float], float] = Tau()
    form: Callable[[float], Form] = OfData
    midpoint: bool = True
    first_below: float = 0.0
    second_below: float = 0.0

    def __post_init__(self) -> None:
        if not (1 <= self.predictor <= 4 and 0 <= self.corrector <= 4):
            raise UsageError(
                "SA-Solver predicts by 1 to 4 nodes and corrects by 0 to 4; found "
                f"{self.predictor} and {self.corrector}."
            )

    @property
    def order(self) -> int:  # type: ignore[override]
        """Of the ODE: the corrector's, at most one more than the predictor's. 1 where t = 0.5 has fresh noise."""
        if self.tau(0.5) > 0.0:
            return 1
        return min(self.predictor + 1, self.corrector) if self.corrector else self.predictor

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        x0 = clean(denoise(x, t))  # [B, ...]
        c, form = levels(process, t, s), self.form(self.tau(float(t)) ** 2)
        if c.blind:
            return from_pure_noise(form, x, x0, c, noise), None
        here, there = half_log_snr(c.a_t, c.s_t), half_log_snr(c.a_s, c.s_s)
        m = form.value(x, x0, c)  # [B, ...]
        past: tuple[tuple[Tensor, float], ...] = ()
        if state is not None:
            x, past = self._corrected(state, m, here, x), state.values
        if not math.isfinite(there):
            return c.a_s * x0, None
        values = ((m, here), *past)[: max(self.predictor, self.corrector - 1)]
        h, most = there - here, self._most(float(s))
        used = values[: min(self.predictor, most)]
        out = moved(form, x, c, h, [(past_m, (at - here) / h) for past_m, at in used], self._area(form, c, h))
        spread = form.spread(c, h)
        fresh = spread * noise.draw(x) if spread > 0.0 else None
        nodes = min(self.corrector, len(values) + 1, most + 1)
        return out if fresh is None else out + fresh, _Past(x, c, form, nodes, fresh, values)

    def _corrected(self, past: _Past, m: Tensor, here: float, x: Tensor) -> Tensor:
        """The end of the step before, `x`, made again with the value `m` that was found there."""
        if past.nodes == 0:
            return x
        (first, began), *older = past.values
        h = here - began
        nodes = [(first, 0.0), (m, 1.0), *((value, (at - began) / h) for value, at in older)][: past.nodes]
        if past.nodes == 1:  # the new value alone
            nodes = [(m, 1.0)]
        out = moved(past.form, past.x, past.levels, h, nodes, self._area(past.form, past.levels, h))
        return out if past.fresh is None else out + past.fresh

    def _most(self, end: float) -> int:
        if end <= self.first_below + 1e-12:
            return 1
        return 2 if end <= self.second_below + 1e-12 else 4

    def _area(self, form: Form, c: Levels, h: float) -> float | None:
        return h * form.rate(c) if self.midpoint else None
