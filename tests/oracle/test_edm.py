"""EDM: unit variance in and out at every level, its loss and weight, and the solvers beside diffusers' schedulers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scheduler_twins import Net, assert_same, begin, draws
from torch import Tensor, nn

from huggingvis.core.diffusion import NetDenoiser
from huggingvis.core.noise import ReplayNoise
from huggingvis.core.preconditioning import Preconditioned
from huggingvis.core.process import Process, V
from huggingvis.core.sample import sample
from huggingvis.core.sampler import Sampler
from huggingvis.data.mixture import standard_mixture
from huggingvis.objectives.denoise import Denoising, LogNormal, UniformTimes
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.processes.table import TableProcess
from huggingvis.processes.ve import LinearVE
from huggingvis.processes.vp import LinearVP
from huggingvis.samplers.churn import Churn
from huggingvis.samplers.dpm_solver import DPMSolver
from huggingvis.samplers.euler import Euler
from huggingvis.samplers.grids import Karras

F64 = torch.float64
PROCESSES = [LinearVE(), LinearVP(), TableProcess.linear(), RectifiedFlow()]


def tensor(value: float) -> Tensor:
    return torch.tensor(value, dtype=F64)


def gaussian(n: int, seed: int) -> Tensor:
    return torch.randn(n, 1, dtype=F64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("sigma_data", [0.5, 1.3])
def test_input_and_target_have_unit_variance(process: Process, sigma_data: float) -> None:
    x0, eps = sigma_data * gaussian(100_000, 0), gaussian(100_000, 1)
    prediction = Preconditioned(sigma_data)
    for time in (1e-3, 0.05, 0.3, 0.7, 0.99):
        t = tensor(time)
        given = prediction.given(process, process.add_noise(x0, eps, t), t)
        assert float(given.var()) == pytest.approx(1, abs=0.01)
        assert float(prediction.target(process, x0, eps, t).var()) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_it_is_table_1_in_sigma_over_alpha(process: Process) -> None:
    """D = c_skip y + c_out F(c_in y; c_noise) with y = x/alpha, and lambda c_out^2 = 1."""
    d, prediction, t = 0.5, Preconditioned(0.5), torch.tensor([0.01, 0.2, 0.6, 0.95], dtype=F64)
    rho = process.sigma(t) / process.alpha(t)
    x0, eps, out = d * gaussian(4, 0), gaussian(4, 1), gaussian(4, 2)
    x = process.add_noise(x0, eps, t)
    y, level = x / process.alpha(t)[:, None], rho[:, None]
    c_skip, c_out = d**2 / (level**2 + d**2), level * d / (level**2 + d**2).sqrt()
    assert float((prediction.x0(process, out, x, t) - (c_skip * y + c_out * out)).abs().max()) < 1e-10
    assert float((prediction.given(process, x, t) - y / (level**2 + d**2).sqrt()).abs().max()) < 1e-10
    assert float((prediction.clock(process, t) - rho.log() / 4).abs().max()) < 1e-12
    target = prediction.target(process, x0, eps, t)
    assert float((prediction.x0(process, target, x, t) - x0).abs().max()) < 1e-10
    effective = prediction.weight(process, t) * c_out[:, 0] ** 2
    assert float((effective - 1).abs().max()) < 1e-10


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.3, dtype=F64))

    def forward(self, x: Tensor, clock: Tensor, cond: object) -> Tensor:
        return self.a * x + clock.to(x)[:, None]


def test_the_plain_loss_is_theirs() -> None:
    """E[ lambda(sigma) |D(x; sigma) - x0|^2 ], Eq. 8 with Eq. 6, on the same draws."""
    process, prediction, net = LinearVE(), Preconditioned(), Linear()
    objective = Denoising(net, process, prediction, LogNormal(process))
    x0 = 0.5 * gaussian(64, 5)
    asked = objective.ask({"x0": x0}, torch.Generator().manual_seed(0))
    belief = NetDenoiser(net, process, prediction)(asked.x, asked.t, {})
    want = prediction.weight(process, asked.t) * (belief.x0 - x0).square().mean(1)
    assert float((objective.squares(asked) - want).detach().abs().max()) < 1e-5  # outputs are compared in float32


def test_noise_levels_are_log_normal() -> None:
    for process in (LinearVE(), LinearVP()):
        t = LogNormal(process, -1.2, 1.2).draw(50_000, torch.Generator().manual_seed(0))
        z = -process.log_snr(t) / 2
        assert float(z.mean()) == pytest.approx(-1.2, abs=0.02) and float(z.std()) == pytest.approx(1.2, abs=0.02)


def test_with_unit_data_on_vp_it_is_minus_v() -> None:
    process, t = LinearVP(), tensor(0.4)
    x0, eps = gaussian(8, 0), gaussian(8, 1)
    want = -V().target(process, x0, eps, t)
    assert float((Preconditioned(1.0).target(process, x0, eps, t) - want).abs().max()) < 1e-12
    assert torch.equal(UniformTimes().weight(torch.rand(3)), torch.ones(3))


def test_a_network_knows_levels_and_not_the_numbers_of_a_grid() -> None:
    net, process = Linear(), TableProcess.linear()
    denoise, x, t = NetDenoiser(net, process, Preconditioned()), gaussian(4, 0), tensor(0.5)
    assert torch.equal(denoise(x, t, {}).x0, denoise(x, t, {"clock": torch.full((4,), 499.0)}).x0)


def test_the_exact_network_is_the_exact_denoiser() -> None:
    """F that Table 1 asks for, of the mixture's denoiser: the wrapped network gives that denoiser back."""
    process, mixture, prediction = LinearVE(), standard_mixture(), Preconditioned(1.2)

    class Exact(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Parameter(torch.ones((), dtype=F64))

        def forward(self, given: Tensor, clock: Tensor, cond: object) -> Tensor:
            rho = torch.exp(4 * clock.to(F64))[:, None]
            y = given * (rho**2 + 1.2**2).sqrt()
            x0 = mixture.x0(y, process, rho[:, 0] / 80)
            c_skip, c_out = 1.2**2 / (rho**2 + 1.2**2), rho * 1.2 / (rho**2 + 1.2**2).sqrt()
            return (x0 - c_skip * y) / c_out * self.one

    x = torch.randn(16, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    for level in (0.01, 0.5, 10.0):
        t = tensor(level / 80)
        got = NetDenoiser(Exact(), process, prediction)(level * x, t, {}).x0.detach()
        assert float((got - mixture.x0(level * x, process, t)).abs().max()) < 1e-5  # the clock is float32


def theirs(scheduler: Any, steps: int, **step: Any) -> tuple[Net, Tensor]:
    """diffusers' loop, with sigmas and clocks in float64 as its formulas give them."""
    scheduler.set_timesteps(steps)
    low, high = scheduler.config.sigma_min ** (1 / 7), scheduler.config.sigma_max ** (1 / 7)
    sigmas = (high + torch.linspace(0, 1, steps, dtype=F64) * (low - high)) ** 7
    scheduler.sigmas = torch.cat([sigmas, torch.zeros(1, dtype=F64)])
    scheduler.timesteps = torch.log(sigmas) / 4
    net, x = Net(), begin() * scheduler.config.sigma_max
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(net(scheduler.scale_model_input(x, t), t), t, x, **step).prev_sample
    return net, x


def ours(sampler: Sampler, steps: int, noise: list[Tensor]) -> tuple[Net, Tensor]:
    process, net = LinearVE(), Net()
    denoise = NetDenoiser(net, process, Preconditioned())
    with torch.no_grad():
        x = sample(denoise, process, sampler, begin() * 80, Karras(steps)(process), {}, noise=ReplayNoise(noise))
    return net, x


@pytest.mark.parametrize("steps", [8, 20])
def test_euler_beside_edm_euler_scheduler(steps: int) -> None:
    import diffusers

    assert_same(ours(Euler(), steps, []), theirs(diffusers.EDMEulerScheduler(), steps), 1e-6)


def test_churned_euler_beside_edm_euler_scheduler() -> None:
    """Their step churns inside, so the net is asked at the raised level with the noise that it is going to draw."""
    import diffusers

    scheduler, gamma, net, x = diffusers.EDMEulerScheduler(), min(4 / 12, math.sqrt(2) - 1), Net(), begin() * 80
    scheduler.set_timesteps(12)
    process = LinearVE(200.0)  # churn does not pass the end of a process
    schedule = Karras(12, sigma_max=80.0)
    scheduler.sigmas = schedule(process).times * 200
    scheduler.is_scale_input_called, rng = True, torch.Generator().manual_seed(3)
    with torch.no_grad():
        for t, sigma, z in zip(scheduler.timesteps, scheduler.sigmas, draws(12), strict=False):
            hat = sigma * (1 + gamma)
            raised = x + z * (hat**2 - sigma**2).sqrt()
            out = net(scheduler.precondition_inputs(raised, hat), hat.log() / 4)
            x = scheduler.step(out, t, x, s_churn=4.0, generator=rng).prev_sample
        other = Net()
        denoise = NetDenoiser(other, process, Preconditioned())
        noise = ReplayNoise(draws(12))
        got = sample(denoise, process, Euler(Churn(gamma)), begin() * 80, schedule(process), {}, noise=noise)
    assert_same((other, got), (net, x), 1e-6)


@pytest.mark.parametrize(("solver", "midpoint"), [("midpoint", True), ("heun", False)])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_dpm_solver_beside_its_edm_form(order: int, solver: str, midpoint: bool) -> None:
    import diffusers

    scheduler = diffusers.EDMDPMSolverMultistepScheduler(solver_order=order, solver_type=solver)
    assert_same(ours(DPMSolver(order, midpoint=midpoint), 20, []), theirs(scheduler, 20), 1e-6)
