r"""DEIS: the exponential integrator with the noise as a polynomial through the steps before, integrated exactly.

Zhang & Chen 2022, arXiv 2204.13902, eq. 15: x_s = alpha_s/alpha_t x_t + sum_j C_j eps_j, the C_j integrals of Lagrange
polynomials. Here the polynomial is in log(sigma/alpha), as in diffusers' DEISMultistepScheduler; in sigma/alpha itself
(their rho-AB) the method is `lms.LMS`. With one or two nodes it is DPM-Solver in its exact form; with three it keeps
the whole second difference. Book: chapter 4, "Multistep".
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
from huggingvis.samplers._exponential import moments, weights
from huggingvis.samplers._levels import clean, euler, half_log_snr, levels

SYSTEM = {
    "name": "DEIS",
    "chapter": 4,
    "paper": "2204.13902",
    "files": ["samplers/_exponential.py", "samplers/lms.py"],
    "built": "tests/walks/test_samplers_by_name.py::test_every_sampler_draws_from_a_run[deis]",
    "exact": [
        "tests/oracle/test_solvers.py::test_order_of_convergence",
        "tests/interop/test_multistep_schedulers.py::test_deis",
    ],
    "trained": "benchmarks/curves/solvers.json",
    "explained": None,
    "usable": None,
}


@final
@dataclass(frozen=True)
class DEIS(Sampler):
    """`order`: nodes of the polynomial, 1 to 4. Its state is ((eps, lambda) of each step before).

    `first_below`, `second_below`: steps that end at such a time or before it use one node, at most two. From pure noise
    and to clean data a step is Euler's.
    """

    order: int = 3
    first_below: float = 0.0
    second_below: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.order <= 4:
            raise ValueError(f"DEIS has order 1 to 4; found {self.order}")

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        x0 = clean(denoise(x, t))  # [B, ...]
        c = levels(process, t, s)
        here, there = half_log_snr(c.a_t, c.s_t), half_log_snr(c.a_s, c.s_s)
        if c.blind or not math.isfinite(there):
            return euler(x, x0, c), None
        eps = mixed(1 / c.s_t, x, -c.a_t / c.s_t, x0)  # [B, ...]
        state = ((eps, here), *(state or ()))[: self.order]
        h = there - here
        used = state[: self._most(float(s))]
        share = weights([(at - here) / h for _, at in used], moments(-h, len(used)))
        out = (c.a_s / c.a_t) * x  # [B, ...]
        for (past, _), w in zip(used, share, strict=True):
            out = plus(out, c.s_s * w, past)
        return out, state

    def _most(self, end: float) -> int:
        if end <= self.first_below + 1e-12:
            return 1
        return min(self.order, 2) if end <= self.second_below + 1e-12 else self.order
