r"""Multistep consistency sampling: believe the datum, add fresh noise up to the next level, believe again.

Song, Dhariwal, Chen & Sutskever 2023, "Consistency Models" (arXiv 2303.01469), Algorithm 1, with the boundary condition
of Luo, Tan, Huang, Li & Zhao 2023, "Latent Consistency Models" (arXiv 2310.04378), Sec. 4.3: what a consistency model
says of x at clock n is

    f(x, n) = c_skip x + c_out x_0,   c_skip = sigma_d^2/(n^2 m^2 + sigma_d^2),   c_out = n m/sqrt(n^2 m^2 + sigma_d^2)

so that f(x, 0) = x; sigma_d is 0.5, m is 10. At the clocks that are walked c_skip is below 1e-4. A step to t = 0 ends
at f. For other models this is the sampler that forgets everything but its last belief. Book: chapter 4, "Few steps".
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
from huggingvis.core.shapes import mixed
from huggingvis.samplers._levels import clean, levels

SYSTEM = {
    "name": "Consistency sampling",
    "chapter": 4,
    "paper": "2303.01469",
    "files": ["samplers/grids/knots.py"],
    "built": "tests/walks/test_samplers_by_name.py::test_every_sampler_draws_from_a_run[lcm]",
    "exact": ["tests/interop/test_schedulers.py::test_lcm"],
    "trained": "benchmarks/curves/samplers.json",
    "explained": None,
    "usable": None,
}


@final
@dataclass(frozen=True)
class Consistency(Sampler):
    """`multiplier` m and `deviation` sigma_d of the boundary condition, which counts clocks up to 1000 as tables do."""

    multiplier: float = 10.0
    deviation: float = 0.5
    order = 1

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        x0 = clean(denoise(x, t))  # [B, ...]
        n = self.multiplier * (1000.0 * float(t) - 1.0)
        size = n**2 + self.deviation**2
        c = levels(process, t, s)
        out = c.a_s * mixed(n / math.sqrt(size), x0, self.deviation**2 / size, x)  # [B, ...]
        return (out + c.s_s * noise.draw(x) if c.s_s > 0.0 else out), state
