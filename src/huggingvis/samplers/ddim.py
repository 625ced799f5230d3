r"""DDIM: fewer steps by a process that is not Markov, deterministic where eta = 0.

Song, Meng, Ermon 2020, arXiv 2010.02502, Eq. 12 and 16, written for any process. With b = sigma_t^2 -
(alpha_t/alpha_s)^2 sigma_s^2 the variance that the forward process adds between s and t,

    std^2 = eta^2 b sigma_s^2/sigma_t^2
    x_s   = alpha_s x_0 + sqrt(sigma_s^2 - std^2) (x_t - alpha_t x_0)/sigma_t + std z

eta = 1 is DDPM with beta-tilde, and also the community's "Euler a" (k-diffusion's ancestral Euler), which is the same
step written in sigma/alpha. Book: chapter 4, "DDIM".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from torch import Tensor

from huggingvis.core.noise import Noise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Bound
from huggingvis.core.sampler import Sampler, State
from huggingvis.core.shapes import mixed, plus
from huggingvis.samplers._levels import clean, levels
from huggingvis.samplers._strides import GRID, Stride

SYSTEM = {
    "name": "DDIM",
    "chapter": 4,
    "paper": "2010.02502",
    "files": ["samplers/_levels.py", "samplers/_strides.py"],
    "built": "tests/walks/test_samplers_by_name.py::test_every_sampler_draws_from_a_run[ddim]",
    "exact": [
        "tests/oracle/test_solvers.py::test_order_of_convergence",
        "tests/oracle/test_solvers.py::test_ddim_with_all_noise_is_ddpm_and_euler_is_ddim",
        "tests/interop/test_schedulers.py::test_ddim",
        "tests/interop/test_schedulers.py::test_ddim_as_a_folder_says",
        "tests/interop/test_sigma_schedules.py::test_ddim_on_zero_terminal_snr",
    ],
    "trained": "benchmarks/curves/steps-ddpm_plain.json",
    "explained": None,
    "usable": None,
}


@final
@dataclass(frozen=True)
class DDIM(Sampler):
    """`eta`: share of fresh noise, 0 (deterministic) to 1 (ancestral).

    `keep`: what is made of the believed x_0 alone, the noise staying as it was believed with it: so diffusers clips.
    `stride`: where a step ends, if not at the next call.
    """

    eta: float = 0.0
    keep: Callable[[Tensor], Tensor] | None = None
    stride: Stride = GRID
    order = 1

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        x0 = clean(denoise(x, t))  # [B, ...]
        c = levels(process, t, self.stride.end(t, s))
        std = self.eta * math.sqrt(c.fresh) * c.s_s / c.s_t
        old = math.sqrt(max(c.s_s**2 - std**2, 0.0)) / c.s_t
        if self.keep is None:
            out = mixed(c.a_s - c.a_t * old, x0, old, x)  # [B, ...]
        else:
            out = plus(mixed(-c.a_t * old, x0, old, x), c.a_s, self.keep(x0))
        return (plus(out, std, noise.draw(x)) if std > 0.0 else out), state
