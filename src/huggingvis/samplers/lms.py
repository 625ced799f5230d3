r"""LMS: linear multistep on the probability-flow ODE, with the slopes of earlier steps instead of new calls.

The Adams-Bashforth method for uneven steps (Hairer, Norsett, Wanner 1993, III.5) in the coordinates of `heun`,

    y = x/(alpha + k sigma),   tau = sigma/(alpha + k sigma),   dy/dtau = eps - k x_0

the slope is taken to be the polynomial through its last values and integrated exactly. k = 0 is the community's "LMS"
(K. Crowson's k-diffusion, 2022, in Karras' sigma) and also rho-AB-DEIS (Zhang & Chen 2022, arXiv 2204.13902, sec. 3.2).
Steps from pure noise, where tau is infinite for k = 0, are Euler's and leave no history. Book: chapter 4, "Multistep".
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
from huggingvis.samplers._exponential import weights
from huggingvis.samplers._levels import clean, euler, levels

SYSTEM = {
    "name": "LMS",
    "chapter": 4,
    "paper": None,
    "files": [],
    "built": "tests/walks/test_samplers_by_name.py::test_every_sampler_draws_from_a_run[lms]",
    "exact": [
        "tests/oracle/test_solvers.py::test_order_of_convergence",
        "tests/interop/test_multistep_schedulers.py::test_lms",
    ],
    "trained": "benchmarks/curves/samplers.json",
    "explained": None,
    "usable": None,
}


@final
@dataclass(frozen=True)
class LMS(Sampler):
    """Linear multistep of up to `order` slopes; `tilt` is k above. Its state is ((slope, tau) of each step before)."""

    order: int = 4
    tilt: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.order <= 4:
            raise ValueError(f"linear multistep has order 1 to 4; found {self.order}")

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        x0 = clean(denoise(x, t))  # [B, ...]
        c = levels(process, t, s)
        k = self.tilt
        if k == 0.0 and c.blind:
            return euler(x, x0, c), None
        start, end = c.a_t + k * c.s_t, c.a_s + k * c.s_s
        tau, tau_s = c.s_t / start, c.s_s / end
        slope = mixed(1 / c.s_t, x, -c.a_t / c.s_t - k, x0)  # [B, ...]
        state = ((slope, tau), *(state or ()))[: self.order]
        h = tau_s - tau
        share = weights([(at - tau) / h for _, at in state], [1 / (n + 1) for n in range(len(state))])
        out = (end / start) * x  # [B, ...]
        for (past, _), w in zip(state, share, strict=True):
            out = plus(out, end * h * w, past)
        return out, state
