r"""DPM-Solver and DPM-Solver++, multistep: one call of the network per step, as ODE and as SDE.

Lu, Zhou, Bao, Chen, Li, Zhu 2022, arXiv 2206.00927 (beliefs about the noise) and 2211.01095 (about the datum, "++",
Algorithm 2). What is integrated, m, is written as a polynomial through its present value m_0 and those of the steps
before, in u = (lambda - lambda_t)/h with the gaps r_0, r_1 before it:

    D_1 = (m_0 - m_1)/r_0,  D_1' = (m_1 - m_2)/r_1,  D_2 = (D_1 - D_1')/(r_0 + r_1)
    order 2   m_0 + u D_1                 order 3   m_0 + u (D_1 + r_0 D_2) + u^2 D_2

and integrated as `_exponential` says. Two habits of the authors' program, where all known pictures come from, are kept:
order 2 weighs D_1 by half of the weight of m_0 (`midpoint`, the u at half of the step) and order 3 counts half of the
u^2, so that it too converges with order 2 (with the whole of it the method is `deis.DEIS`). The community's "DPM++ 2M",
"2M SDE" and "3M SDE" are these. There is no history at the first step, and a step to
clean data ends at the belief. Book: chapter 4, "DPM-Solver".
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
from huggingvis.core.shapes import mixed, plus
from huggingvis.samplers._exponential import moments
from huggingvis.samplers._levels import Levels, clean, half_log_snr, levels
from huggingvis.samplers._multistep import Form, from_pure_noise

SYSTEM = {
    "name": "DPM-Solver++",
    "chapter": 4,
    "paper": "2211.01095",
    "files": ["samplers/dpm_singlestep.py", "samplers/dpm_on_grid.py", "samplers/_exponential.py"],
    "built": "tests/walks/test_samplers_by_name.py::test_every_sampler_draws_from_a_run[dpm++2m]",
    "exact": [
        "tests/oracle/test_solvers.py::test_order_of_convergence",
        "tests/interop/test_schedulers.py::test_dpm_solver_pp_2m",
        "tests/interop/test_multistep_schedulers.py::test_dpm_solver_multistep",
        "tests/interop/test_sigma_schedules.py::test_dpm_solver_singlestep",
    ],
    "trained": "benchmarks/curves/solvers.json",
    "explained": None,
    "usable": None,
}


@final
@dataclass(frozen=True)
class OfData:
    """Beliefs about the datum. `eta`: share of fresh noise, 0 for the ODE, 1 for the SDE."""

    eta: float = 0.0

    def value(self, x: Tensor, x0: Tensor, c: Levels) -> Tensor:
        return x0

    def decay(self, c: Levels, h: float) -> float:
        return c.s_s / c.s_t * math.exp(-self.eta * h) if self.eta else c.s_s / c.s_t

    def integrals(self, c: Levels, h: float, n: int) -> tuple[float, ...]:
        return tuple(c.a_s * m for m in moments((1 + self.eta) * h, n))

    def rate(self, c: Levels) -> float:
        return c.a_s * (1 + self.eta)

    def spread(self, c: Levels, h: float) -> float:
        return c.s_s * math.sqrt(-math.expm1(-2 * self.eta * h)) if self.eta else 0.0


@final
@dataclass(frozen=True)
class OfNoise:
    """Beliefs about the noise. `eta`: share of fresh noise, 0 for the ODE, 1 for the SDE."""

    eta: float = 0.0

    def value(self, x: Tensor, x0: Tensor, c: Levels) -> Tensor:
        return mixed(1 / c.s_t, x, -c.a_t / c.s_t, x0)

    def decay(self, c: Levels, h: float) -> float:
        return c.a_s / c.a_t

    def integrals(self, c: Levels, h: float, n: int) -> tuple[float, ...]:
        return tuple((1 + self.eta) * c.s_s * m for m in moments(-h, n))

    def rate(self, c: Levels) -> float:
        return -c.s_s * (1 + self.eta)

    def spread(self, c: Levels, h: float) -> float:
        return c.s_s * math.sqrt(self.eta * math.expm1(2 * h)) if self.eta else 0.0


@final
@dataclass(frozen=True)
class DPMSolver(Sampler):
    """DPM-Solver multistep; its state is ((m, lambda) of the step before, of the one before that).

    `values`: how many are used, 1 to 3: 2 for "2M", 3 for "3M". `form`: `OfData` for DPM-Solver++, `OfNoise` for
    DPM-Solver. `midpoint`: how two values weigh the slope, see above. `first_below`, `second_below`: steps that end at
    such a time or before it use one, at most two. 0 is only the step to clean data, which must use one; a grid that
    ends at a table's first knot wants that knot's time, 1/T, when its steps are few.
    """

    values: int = 2
    form: Form = OfData()
    midpoint: bool = True
    first_below: float = 0.0
    second_below: float = 0.0

    def __post_init__(self) -> None:
        if self.values not in (1, 2, 3):
            raise ValueError(f"DPM-Solver multistep uses 1, 2 or 3 values; found {self.values}")

    @property
    def order(self) -> int:  # type: ignore[override]
        """2; 1 for a single value, and with fresh noise."""
        return 1 if self.values == 1 or self.form.spread(Levels(0.0, 1.0, 1.0, 1.0), 1.0) > 0.0 else 2

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        x0 = clean(denoise(x, t))  # [B, ...]
        c = levels(process, t, s)
        here, there = half_log_snr(c.a_t, c.s_t), half_log_snr(c.a_s, c.s_s)
        if c.blind:
            return from_pure_noise(self.form, x, x0, c, noise), None
        m = self.form.value(x, x0, c)  # [B, ...]
        state = ((m, here), *(state or ()))[: self.values]
        if not math.isfinite(there):
            return c.a_s * x0, state
        used = min(len(state), self._most(float(s)))
        h = there - here
        out = plus(self._integrated(state[:used], c, h), self.form.decay(c, h), x)  # [B, ...]
        spread = self.form.spread(c, h)
        return (plus(out, spread, noise.draw(x)) if spread > 0.0 else out), state

    def _most(self, end: float) -> int:
        if end <= self.first_below + 1e-12:
            return 1
        return min(self.values, 2) if end <= self.second_below + 1e-12 else self.values

    def _integrated(self, history: tuple[tuple[Tensor, float], ...], c: Levels, h: float) -> Tensor:
        (m0, l0), *before = history
        i0, i1, i2 = self.form.integrals(c, h, 3)
        if not before:
            return i0 * m0
        (m1, l1), *older = before
        r0 = (l0 - l1) / h
        if not older:
            w = (i0 / 2 if self.midpoint else i1) / r0
            return mixed(i0 + w, m0, -w, m1)
        ((m2, l2),) = older
        r1 = (l1 - l2) / h
        curve = (i1 * r0 + i2 / 2) / (r0 + r1)  # weight of D_1 - D_1'
        near, far = (i1 + curve) / r0, -curve / r1  # weights of m_0 - m_1 and of m_1 - m_2
        return plus(mixed(i0 + near, m0, far - near, m1), -far, m2)
