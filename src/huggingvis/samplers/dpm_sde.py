r"""DPM++ SDE: DPM-Solver++ 2S with fresh noise in both of its stages; two calls per step.

K. Crowson's k-diffusion (2022), after Lu et al. 2022, arXiv 2211.01095. With `ancestral_form.down_from`: the inner
point, at the share r of the step in half log-SNR, is reached by Euler's step and noise; then the whole step is made
with the belief (1 - 1/(2r)) x_0 + 1/(2r) x_0', and noise. Book: chapter 4, "Fresh noise".
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
from huggingvis.samplers.ancestral_form import down_from

SYSTEM = {
    "name": "DPM-Solver++ SDE",
    "chapter": 4,
    "paper": "2211.01095",
    "files": ["samplers/dpm_solver.py", "samplers/ancestral_form.py"],
    "built": "tests/walks/test_samplers_by_name.py::test_every_sampler_draws_from_a_run[dpm++sde]",
    "exact": [
        "tests/oracle/test_solvers.py::test_stochastic_samplers_draw_the_mixture",
        "tests/interop/test_multistep_schedulers.py::test_dpm_solver_multistep",
    ],
    "trained": "benchmarks/curves/samplers.json",
    "explained": None,
    "usable": None,
}


@final
@dataclass(frozen=True)
class DPMSolverSDE(Sampler):
    """`eta`: share of fresh noise; `r`: where the inner point lies. From pure noise and to clean data: one call."""

    eta: float = 1.0
    r: float = 0.5
    order = 1

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        x0 = clean(denoise(x, t))  # [B, ...]
        c = levels(process, t, s)
        here, there = half_log_snr(c.a_t, c.s_t), half_log_snr(c.a_s, c.s_s)
        if not math.isfinite(there):
            return c.a_s * x0, state
        if c.blind:
            return self._noised(process, x, x0, t, s, noise), state
        inner = process.t_of_logsnr(torch.tensor(2 * (here + self.r * (there - here)), dtype=torch.float64))
        y = self._noised(process, x, x0, t, inner, noise)  # [B, ...]
        share = 1 / (2 * self.r)
        return self._noised(process, x, (1 - share) * x0 + share * clean(denoise(y, inner)), t, s, noise), state

    def _noised(self, process: Process, x: Tensor, x0: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        """Euler's step with the belief `x0` past s, and noise back to s."""
        down = down_from(process, t, s, self.eta)
        c = levels(process, t, down)
        return process.renoise(euler(x, x0, c), down, s, noise.draw(x))
