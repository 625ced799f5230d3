r"""Heun's method on the probability-flow ODE: two calls of the network per step, second order.

Karras et al. 2022, arXiv 2206.00364, Algorithm 1 (Algorithm 2 with churn), for any process. The coordinates are

    y = x/(alpha + k sigma),   tau = sigma/(alpha + k sigma),   dy/dtau = eps - k x_0

k = 0 is the paper's (y = x/alpha, tau = sigma/alpha). k = 1 straightens every process into a rectified flow; it is
finite where alpha = 0, so it is also taken for a step that starts there. The last step, to sigma = 0, is Euler's.
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
from huggingvis.core.shapes import mixed, plus
from huggingvis.samplers._levels import clean, euler, levels
from huggingvis.samplers.churn import Churn

SYSTEM = {
    "name": "Heun",
    "chapter": 4,
    "paper": "2206.00364",
    "files": ["samplers/churn.py"],
    "built": "tests/walks/test_samplers_by_name.py::test_every_sampler_draws_from_a_run[heun]",
    "exact": [
        "tests/oracle/test_solvers.py::test_order_of_convergence",
        "tests/oracle/test_solvers.py::test_edm_algorithm_2_written_out",
        "tests/interop/test_schedulers.py::test_heun",
        "tests/interop/test_schedulers.py::test_flow_match_heun",
    ],
    "trained": "benchmarks/curves/edm.json",
    "explained": None,
    "usable": None,
}


@final
@dataclass(frozen=True)
class Heun(Sampler):
    """Heun's method, second order. `tilt` is k above: 0 for EDM's coordinate, 1 for the flow's."""

    tilt: float = 0.0
    churn: Churn | None = None
    order = 2

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        if self.churn is not None:
            x, t = self.churn(process, x, t, noise)
        x0 = clean(denoise(x, t))  # [B, ...]
        c = levels(process, t, s)
        y = euler(x, x0, c)  # [B, ...]
        if c.s_s == 0.0:
            return y, state
        k = self.tilt if c.a_t > 1e-6 * c.s_t else 1.0  # the cosine's alpha(1) is zero up to rounding
        x0_s = clean(denoise(y, s))  # [B, ...]
        slope_t = mixed(1 / c.s_t, x, -c.a_t / c.s_t - k, x0)  # [B, ...]
        slope_s = mixed(1 / c.s_s, y, -c.a_s / c.s_s - k, x0_s)  # [B, ...]
        end = c.a_s + k * c.s_s
        width = c.s_s - end * c.s_t / (c.a_t + k * c.s_t)  # end (tau_s - tau_t)
        return y + (width / 2) * plus(slope_s, -1.0, slope_t), state
