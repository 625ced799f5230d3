r"""Euler's method on the probability-flow ODE in the coordinate rho = sigma/alpha.

Karras et al. 2022, arXiv 2206.00364, Eq. 4 and Algorithm 2 without its second-order part. With y = x/alpha the ODE is
dy/drho = (y - x_0)/rho = eps, so one step is y_s = y_t + (rho_s - rho_t) eps, that is

    x_s = alpha_s x_0 + sigma_s eps

which is DDIM at eta = 0 and, on rectified flow, plain Euler in t. Without churn this file therefore *is* that formula.
Book: chapter 4, "EDM".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from huggingvis.core.noise import Noise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Bound
from huggingvis.core.sampler import Sampler, State
from huggingvis.samplers._levels import clean, euler, levels
from huggingvis.samplers.churn import Churn

SYSTEM = {
    "name": "Euler",
    "chapter": 4,
    "paper": "2206.00364",
    "files": ["samplers/churn.py"],
    "built": "tests/walks/test_samplers_by_name.py::test_every_sampler_draws_from_a_run[euler]",
    "exact": [
        "tests/oracle/test_solvers.py::test_order_of_convergence",
        "tests/interop/test_schedulers.py::test_euler",
        "tests/interop/test_schedulers.py::test_flow_match_euler",
    ],
    "trained": "benchmarks/curves/samplers.json",
    "explained": None,
    "usable": None,
}


@final
@dataclass(frozen=True)
class Euler(Sampler):
    """Euler's method, first order; `churn` adds fresh noise before each step (none by default)."""

    churn: Churn | None = None
    order = 1

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        if self.churn is not None:
            x, t = self.churn(process, x, t, noise)
        x0 = clean(denoise(x, t))  # [B, ...]
        return euler(x, x0, levels(process, t, s)), state
