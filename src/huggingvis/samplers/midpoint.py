r"""The midpoint method on the probability-flow ODE: two calls per step, second order; the community's "DPM2".

Karras et al. 2022, arXiv 2206.00364, with K. Crowson's k-diffusion (2022): Euler's step to the geometric mean of the
noise levels rho = sigma/alpha, and from the start again the whole step with the noise found there:
x_s = alpha_s/alpha_t x_t + (sigma_s - alpha_s/alpha_t sigma_t) eps_mid. From pure noise and to clean data: Euler.
Book: chapter 4, "EDM".
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

SYSTEM = {
    "name": "DPM2",
    "chapter": 4,
    "paper": "2206.00364",
    "files": [],
    "built": "tests/walks/test_samplers_by_name.py::test_every_sampler_draws_from_a_run[dpm2]",
    "exact": [
        "tests/oracle/test_solvers.py::test_order_of_convergence",
        "tests/interop/test_multistep_schedulers.py::test_dpm2",
    ],
    "trained": "benchmarks/curves/samplers.json",
    "explained": None,
    "usable": None,
}


@final
@dataclass(frozen=True)
class Midpoint(Sampler):
    """The midpoint method in log sigma/alpha."""

    order = 2

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        x0 = clean(denoise(x, t))  # [B, ...]
        c = levels(process, t, s)
        here, there = half_log_snr(c.a_t, c.s_t), half_log_snr(c.a_s, c.s_s)
        if c.blind or not math.isfinite(there):
            return euler(x, x0, c), state
        inner = process.t_of_logsnr(torch.tensor(here + there, dtype=torch.float64))
        half = levels(process, t, inner)
        y = euler(x, x0, half)  # [B, ...]
        eps = (y - half.a_s * clean(denoise(y, inner))) / half.s_s  # [B, ...]
        keep = c.a_s / c.a_t
        return keep * x + (c.s_s - keep * c.s_t) * eps, state
