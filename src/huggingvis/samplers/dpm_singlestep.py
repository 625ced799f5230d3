r"""DPM-Solver, singlestep: all calls of a step lie inside it, so no history is needed.

Lu et al. 2022, arXiv 2206.00927, Algorithms 1 and 2 (DPM-Solver-2 and -3), and arXiv 2211.01095, Algorithm 1 (the same
with beliefs about the datum, DPM-Solver++ 2S). Inner points lie at shares r of the step in half log-SNR: 1/2 for order
2; 1/3 and 2/3 for order 3. With the integrals of `_exponential` and D_i = m_i - m_0,

    order 2   I[1] m_0 + I[1]/(2 r) D_1
    order 3   I[1] m_0 + I[u]/r_2 D_2,   its inner point r_2 made with I[1] m_0 + I[u]/r_1 D_1 over the share r_2

Book: chapter 4, "DPM-Solver".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from huggingvis.core.noise import Noise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Bound
from huggingvis.core.sampler import Sampler, State
from huggingvis.samplers._levels import clean, euler, half_log_snr, levels
from huggingvis.samplers._multistep import Form
from huggingvis.samplers.dpm_solver import OfNoise

SYSTEM = {
    "name": "DPM-Solver",
    "chapter": 4,
    "paper": "2206.00927",
    "files": ["samplers/dpm_on_grid.py", "samplers/dpm_solver.py", "samplers/_exponential.py"],
    "built": "tests/walks/test_samplers_by_name.py::test_every_sampler_draws_from_a_run[dpm-solver-3]",
    "exact": [
        "tests/oracle/test_solvers.py::test_order_of_convergence",
        "tests/oracle/test_sampler_facts.py::test_dpm_solver_of_order_one_is_ddim",
        "tests/interop/test_multistep_schedulers.py::test_dpm_solver_multistep",
        "tests/interop/test_sigma_schedules.py::test_dpm_solver_singlestep",
    ],
    "trained": "benchmarks/curves/samplers.json",
    "explained": None,
    "usable": None,
}


@final
@dataclass(frozen=True)
class DPMSolverSinglestep(Sampler):
    """`order` 2 or 3, with as many calls a step. `form`, without fresh noise: `OfNoise` DPM-Solver, `OfData` the ++."""

    order: int = 2
    form: Form = OfNoise()

    def __post_init__(self) -> None:
        if self.order not in (2, 3):
            raise ValueError(f"DPM-Solver singlestep has order 2 or 3; found {self.order}")

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        x0 = clean(denoise(x, t))  # [B, ...]
        c = levels(process, t, s)
        here, there = half_log_snr(c.a_t, c.s_t), half_log_snr(c.a_s, c.s_s)
        if c.blind or not math.isfinite(there):
            return euler(x, x0, c), state
        h = there - here
        m0 = self.form.value(x, x0, c)  # [B, ...]

        def at(share: float, slope: Tensor | None, weight: float) -> tuple[Tensor, Tensor]:
            """x at a share of the step, with `slope` (a difference of values) per u, and the value found there."""
            inner = process.t_of_logsnr(torch.tensor(2 * (here + share * h), dtype=torch.float64))
            d = levels(process, t, inner)
            i0, i1 = self.form.integrals(d, share * h, 2)
            y = self.form.decay(d, share * h) * x + i0 * m0
            if slope is not None:
                y = y + (i1 * weight) * slope
            found = clean(denoise(y, inner))
            return y, self.form.value(y, found, levels(process, inner, s))

        i0, i1 = self.form.integrals(c, h, 2)
        out = self.form.decay(c, h) * x + i0 * m0
        if self.order == 2:
            _, m1 = at(1 / 2, None, 0.0)
            return out + i0 * (m1 - m0), state  # 1/(2 r) = 1
        _, m1 = at(1 / 3, None, 0.0)
        _, m2 = at(2 / 3, m1 - m0, 2.0)  # r_2/r_1
        return out + (i1 * 3 / 2) * (m2 - m0), state
