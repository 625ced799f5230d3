r"""The ancestral form of any sampler: step too far, then put noise back.

K. Crowson's k-diffusion (2022), for any process: in rho = sigma/alpha a step from rho_t to rho_s goes on to rho_down,

    rho_up^2 = eta^2 rho_s^2 (rho_t^2 - rho_s^2)/rho_t^2,     rho_down^2 = rho_s^2 - rho_up^2

and the forward process carries x from there back to s. The fresh variance is that of the true posterior when eta = 1
(Song, Meng, Ermon 2020, arXiv 2010.02502, eq. 16). Of Euler it makes "Euler a" (which is also `ddim.DDIM(1.0)`), of
`Midpoint` "DPM2 a", of `DPMSolverSinglestep` in its ++ form "DPM++ 2S a". Book: chapter 4, "Fresh noise".
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
from huggingvis.samplers._levels import levels

SYSTEM = {
    "name": "Ancestral samplers",
    "chapter": 4,
    "paper": None,
    "files": ["samplers/ddim.py", "samplers/midpoint.py", "samplers/dpm_singlestep.py"],
    "built": "tests/walks/test_samplers_by_name.py::test_every_sampler_draws_from_a_run[dpm2-a]",
    "exact": [
        "tests/oracle/test_solvers.py::test_stochastic_samplers_draw_the_mixture",
        "tests/interop/test_schedulers.py::test_euler_a_is_ddim_with_all_noise",
        "tests/interop/test_multistep_schedulers.py::test_dpm2",
    ],
    "trained": "benchmarks/curves/samplers.json",
    "explained": None,
    "usable": None,
}


@final
@dataclass(frozen=True)
class AncestralForm(Sampler):
    """`inner`, a sampler without history, with the share `eta` of fresh noise (0: `inner` itself)."""

    inner: Sampler
    eta: float = 1.0

    @property
    def order(self) -> int:  # type: ignore[override]
        """That of `inner` without fresh noise, else 1."""
        return self.inner.order if self.eta == 0.0 else 1

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        c = levels(process, t, s)
        if c.s_s == 0.0 or self.eta == 0.0:
            return self.inner.step(denoise, process, x, t, s, state, noise)
        down = down_from(process, t, s, self.eta)
        x, state = self.inner.step(denoise, process, x, t, down, state, noise)
        return process.renoise(x, down, s, noise.draw(x)), state


def down_from(process: Process, t: Tensor, s: Tensor, eta: float) -> Tensor:
    """The time of rho_down, 0-dim float64; the clean end where all of the noise at s is fresh."""
    c = levels(process, t, s)
    kept = 1 - eta**2 * (1 - (c.s_s * c.a_t / (c.a_s * c.s_t)) ** 2)  # rho_down^2/rho_s^2
    if kept <= 0.0:
        return torch.zeros((), dtype=torch.float64)
    return process.t_of_logsnr(torch.tensor(2 * math.log(c.a_s / c.s_s) - math.log(kept), dtype=torch.float64))
