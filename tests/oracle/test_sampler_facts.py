"""What papers claim of one sampler beside another, on the closed-form mixture in float64."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from huggingvis.core.belief import Belief
from huggingvis.core.grid import Grid
from huggingvis.core.noise import ReplayNoise
from huggingvis.core.process import Process
from huggingvis.core.sample import sample
from huggingvis.core.sampler import Sampler
from huggingvis.data.mixture import standard_mixture
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.processes.vp import CosineVP, LinearVP
from huggingvis.samplers.ddim import DDIM
from huggingvis.samplers.dpm_singlestep import DPMSolverSinglestep
from huggingvis.samplers.dpm_solver import DPMSolver, OfData, OfNoise
from huggingvis.samplers.grids import Uniform
from huggingvis.samplers.heun import Heun
from huggingvis.samplers.plms import PNDM, PseudoRungeKutta

F64 = torch.float64
RUNGE_KUTTA = 9
"""Calls that PNDM's start costs beyond one a step: four in each of the first three steps."""


def drawn(process: Process, sampler: Sampler, grid: Grid) -> Tensor:
    x = torch.randn(32, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    return sample(standard_mixture().denoiser(process), process, sampler, x, grid, {}, noise=ReplayNoise([]))


def test_pndm_beats_ddim_at_as_many_calls() -> None:
    """Liu, Ren, Lin, Zhao 2022, arXiv 2202.09778, Table 3. Measured: 0.114 (DDIM) and 0.022 at 20 calls, 0.036 and
    0.0009 at 50, or 0.0018 with the Runge-Kutta start, whose calls are counted; at 20 calls that start is too dear.
    """
    process = LinearVP()
    truth = drawn(process, Heun(), Uniform(600, 1.0, 1e-3)(process))

    def off(sampler: Sampler, steps: int) -> float:
        return float((drawn(process, sampler, Uniform(steps, 1.0, 1e-3)(process)) - truth).norm(dim=1).mean())

    assert off(PNDM(), 20) < 0.3 * off(DDIM(), 20)
    many = off(DDIM(), 50)
    assert off(PNDM(), 50) < 0.1 * many
    assert off(PNDM(PseudoRungeKutta()), 50 - RUNGE_KUTTA) < 0.1 * many


@pytest.mark.parametrize("process", [LinearVP(), CosineVP(), RectifiedFlow()], ids=repr)
def test_dpm_solver_of_order_one_is_ddim(process: Process) -> None:
    """Lu et al. 2022, arXiv 2206.00927, Sec. 4.1; and so is the ++ form (2211.01095, Sec. 4)."""
    grid = Uniform(15, 0.98)(process)
    for form in (OfNoise(), OfData()):
        assert float((drawn(process, DPMSolver(1, form), grid) - drawn(process, DDIM(), grid)).abs().max()) < 1e-10


def test_ddim_at_20_steps_draws_nearly_what_it_draws_at_1000() -> None:
    """The same noise is the same sample, to the method's error: Song et al. 2020, arXiv 2010.02502, Sec. 5.2."""
    process = LinearVP()
    few, many = (drawn(process, DDIM(), Uniform(n, 1.0, 1e-3)(process)) for n in (20, 1000))
    assert float((few - many).norm(dim=1).mean()) < 0.15
    assert float((few - many.roll(1, 0)).norm(dim=1).mean()) > 1.5


def test_errors_of_10_and_160_steps() -> None:
    """On equal steps of log-SNR. Measured: .217 and .0126 (DDIM), .065 and 2.0e-4, .0123 and 3.6e-6 (DPM-Solver)."""
    process = LinearVP()
    first, last = (float(process.log_snr(torch.tensor(t, dtype=F64))) for t in (1.0, 1e-3))

    def grid(n: int) -> Grid:
        return Grid(process.t_of_logsnr(torch.linspace(first, last, n + 1, dtype=F64)))

    truth = drawn(process, DPMSolverSinglestep(3), grid(500))
    bounds = {DDIM(): (0.22, 0.013), DPMSolverSinglestep(2): (0.066, 2.1e-4), DPMSolverSinglestep(3): (0.0125, 4e-6)}
    for sampler, each in bounds.items():
        for steps, most in zip((10, 160), each, strict=True):
            assert float((drawn(process, sampler, grid(steps)) - truth).norm(dim=1).mean()) < most


def test_ddim_there_and_back() -> None:
    """From data to noise by the same steps upwards, and back: not exact, but half as far off with twice the steps.

    Of the median datum: the few near the border between two components may be told apart only by many steps.
    """
    process, noise = LinearVP(), ReplayNoise([])
    mixture = standard_mixture()
    x0 = mixture.sample(64, torch.Generator().manual_seed(1))

    def bound(x: Tensor, t: Tensor) -> Belief:
        return mixture.denoiser(process)(x, t, {})

    def off(steps: int) -> float:
        up, x = torch.linspace(1e-3, 1.0, steps + 1, dtype=F64), x0
        for t, s in [*pairwise(up), *pairwise(up.flip(0))]:
            x, _ = DDIM().step(bound, process, x, t, s, None, noise)
        return float(((x - x0).norm(dim=1) / x0.norm(dim=1)).median())

    errors = {steps: off(steps) for steps in (50, 100, 200, 1000)}
    assert errors[50] < 0.06 and errors[1000] < 0.004
    assert 1.7 < errors[50] / errors[100] < 2.3 and 1.7 < errors[100] / errors[200] < 2.3
