"""Samplers beside diffusers' schedulers: the same network calls, step by step.

Both sides call one nonlinear network. Every call's x (in our scale, where alpha^2 + sigma^2 = 1 or alpha + sigma = 1),
the clock value it was told, and the final sample must agree to 1e-5 of the largest number. Comparing x rather than the
noise estimate stays meaningful below sigma = 0.01. Tables are taken from the scheduler, so that both hold the same
float32 values; where diffusers keeps sigmas or samples in float32 that rounding is what is left.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from huggingvis.core.diffusion import NetDenoiser
from huggingvis.core.noise import ReplayNoise
from huggingvis.core.process import PREDICTIONS, Process
from huggingvis.core.sample import Sampler, sample
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.processes.table import TableProcess
from huggingvis.samplers.ancestral import Ancestral
from huggingvis.samplers.ddim import DDIM
from huggingvis.samplers.dpm_solver import DPMSolver
from huggingvis.samplers.euler import Euler
from huggingvis.samplers.grids import Karras, Leading, Linspace, Schedule, Shifted, Trailing
from huggingvis.samplers.heun import Heun

diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

F64 = torch.float64
OURS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0", "flow": "velocity"}
BETAS: dict[str, dict[str, Any]] = {
    "linear": {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
    "scaled": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
}


class Net(nn.Module):
    """A smooth network of x and clock that remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.7, dtype=F64))
        self.asked: list[tuple[Tensor, float]] = []

    def forward(self, x: Tensor, clock: Tensor, cond: Any = None) -> Tensor:
        clock = clock.to(F64).expand(len(x))
        self.asked.append((x.detach().clone(), float(clock[0])))
        return torch.sin(1.3 * x.roll(1, -1) + 0.004 * clock.reshape(-1, 1, 1, 1)) * self.gain + 0.2 * x


def begin() -> Tensor:
    return torch.randn(2, 3, 4, 4, dtype=F64, generator=torch.Generator().manual_seed(7))


def draws(n: int) -> list[Tensor]:
    """What diffusers draws from a generator seeded with 3."""
    g = torch.Generator().manual_seed(3)
    return [torch.randn(2, 3, 4, 4, dtype=F64, generator=g) for _ in range(n)]


@torch.no_grad()
def theirs(scheduler: Any, x: Tensor, **step: Any) -> tuple[Net, Tensor]:
    """diffusers' pipeline loop from x, which is in the scheduler's own scale."""
    net = Net()
    for t in scheduler.timesteps:
        x = scheduler.step(net(scheduler.scale_model_input(x, t).to(F64), t), t, x, **step).prev_sample
    return net, x.to(F64)


@torch.no_grad()
def ours(
    process: Process, prediction: str, sampler: Sampler, schedule: Schedule, x: Tensor, noise: list[Tensor]
) -> tuple[Net, Tensor]:
    net = Net()
    denoise = NetDenoiser(net, process, PREDICTIONS[OURS[prediction]]())
    return net, sample(denoise, process, sampler, x, schedule(process), {}, noise=ReplayNoise(noise))


def assert_same(one: tuple[Net, Tensor], other: tuple[Net, Tensor], tol: float = 1e-5) -> None:
    (net, x), (reference, y) = one, other
    assert len(net.asked) == len(reference.asked)
    for (xa, ca), (xb, cb) in zip(net.asked, reference.asked, strict=True):
        assert ca == pytest.approx(cb, rel=1e-5, abs=2e-3 if cb % 1 else 0)
        assert float((xa - xb).abs().max()) <= tol * max(1.0, float(xb.abs().max()))
    assert float((x - y).abs().max()) <= tol * max(1.0, float(y.abs().max()))


def double(scheduler: Any) -> TableProcess:
    """The scheduler's table, and the scheduler moved to float64 where it computes from it."""
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    return TableProcess(scheduler.alphas_cumprod)


SPACINGS: dict[str, tuple[Any, Any, Any]] = {
    "leading": (Leading(20, 0), Leading(20, 0, open_end=True), Leading(20, 0)),
    "trailing": (Trailing(20), Trailing(20), Trailing(20)),
    "linspace": (Linspace(20), Linspace(20, open_end=True), Linspace(20, rounded=False, chord=True)),
}  # diffusers rounds one way in DDPM and DDIM, another in DPM-Solver, a third in Euler and Heun


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("betas", BETAS)
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_ddpm(prediction: str, spacing: str, betas: str, variance: str) -> None:
    scheduler = diffusers.DDPMScheduler(**BETAS[betas], timestep_spacing=spacing, prediction_type=prediction,
                                        variance_type=variance, clip_sample=False)  # fmt: skip
    process = double(scheduler)
    scheduler.set_timesteps(20)
    reference = theirs(scheduler, begin(), generator=torch.Generator().manual_seed(3))
    sampler = Ancestral(1.0 if variance == "fixed_large" else 0.0)
    schedule = SPACINGS[spacing][0]
    if spacing == "trailing" and variance == "fixed_large":
        # their last step, from index 49 to clean data, adds noise of variance beta; ours, as every last step, does not
        got = ours(process, prediction, sampler, schedule, begin(), draws(20))
        (net, _), (other, _) = got, reference
        assert_same((net, begin()), (other, begin()))
        return
    assert_same(ours(process, prediction, sampler, schedule, begin(), draws(20)), reference)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("betas", BETAS)
@pytest.mark.parametrize(("eta", "clean"), [(0.0, True), (0.0, False), (0.6, True)])
def test_ddim(prediction: str, spacing: str, betas: str, eta: float, clean: bool) -> None:
    """Not with linspace: DDIMScheduler steps by T // N whatever the next listed time is, so its x and its time part."""
    scheduler = diffusers.DDIMScheduler(**BETAS[betas], timestep_spacing=spacing, prediction_type=prediction,
                                        set_alpha_to_one=clean, clip_sample=False)  # fmt: skip
    process = double(scheduler)
    scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=F64) if clean else scheduler.alphas_cumprod[0]
    scheduler.set_timesteps(20)
    reference = theirs(scheduler, begin(), eta=eta, generator=torch.Generator().manual_seed(3))
    schedule = Leading(20, 0, clean_end=clean) if spacing == "leading" else Trailing(20, clean_end=clean)
    assert_same(ours(process, prediction, DDIM(eta), schedule, begin(), draws(20)), reference, 1e-9)


def sigma_scaled(scheduler: Any, x: Tensor) -> Tensor:
    """From our x to that of schedulers which work in x / alpha."""
    return x * (scheduler.sigmas[0].to(F64) ** 2 + 1) ** 0.5


def double_sigmas(scheduler: Any, calls: Tensor) -> None:
    """Their sigmas of the timesteps `calls`, by their formula in float64.

    The cosine table ends at sigma = 20,000, where float32 sigmas alone move the result by 1e-3.
    """
    bar = scheduler.alphas_cumprod.double().numpy()
    sigmas = np.interp(calls.double().numpy(), np.arange(len(bar)), ((1 - bar) / bar) ** 0.5)
    full = torch.from_numpy(np.append(sigmas, 0.0))
    twice = len(scheduler.sigmas) > len(full)  # Heun lists each of its inner sigmas two times
    scheduler.sigmas = torch.cat([full[:1], full[1:-1].repeat_interleave(2), full[-1:]]) if twice else full


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("betas", BETAS)
def test_euler(prediction: str, spacing: str, betas: str) -> None:
    scheduler = diffusers.EulerDiscreteScheduler(**BETAS[betas], timestep_spacing=spacing, prediction_type=prediction)
    scheduler.set_timesteps(20)
    double_sigmas(scheduler, scheduler.timesteps)
    reference = theirs(scheduler, sigma_scaled(scheduler, begin()))
    process = TableProcess(scheduler.alphas_cumprod)
    assert_same(ours(process, prediction, Euler(), SPACINGS[spacing][2], begin(), []), reference)


@pytest.mark.parametrize("last", ["zero", "sigma_min"])
@pytest.mark.parametrize("betas", BETAS)
def test_euler_karras(betas: str, last: str) -> None:
    scheduler = diffusers.EulerDiscreteScheduler(**BETAS[betas], use_karras_sigmas=True, final_sigmas_type=last)
    scheduler.set_timesteps(20)
    net, y = theirs(scheduler, sigma_scaled(scheduler, begin()))
    process = TableProcess(scheduler.alphas_cumprod)
    y = y / (scheduler.sigmas[-1].to(F64) ** 2 + 1) ** 0.5
    assert_same(ours(process, "epsilon", Euler(), Karras(20, clean_end=last == "zero"), begin(), []), (net, y))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("betas", ["linear", "scaled"])
def test_euler_a_is_ddim_with_all_noise(prediction: str, betas: str) -> None:
    scheduler = diffusers.EulerAncestralDiscreteScheduler(**BETAS[betas], timestep_spacing="trailing",
                                                          prediction_type=prediction)  # fmt: skip
    scheduler.set_timesteps(20)
    start = sigma_scaled(scheduler, begin())
    reference = theirs(scheduler, start, generator=torch.Generator().manual_seed(3))
    process = TableProcess(scheduler.alphas_cumprod)
    assert_same(ours(process, prediction, DDIM(1.0), Trailing(20), begin(), draws(20)), reference)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", [*SPACINGS, "karras"])
@pytest.mark.parametrize("betas", BETAS)
def test_heun(prediction: str, spacing: str, betas: str) -> None:
    kind = {"use_karras_sigmas": True} if spacing == "karras" else {"timestep_spacing": spacing}
    scheduler = diffusers.HeunDiscreteScheduler(**BETAS[betas], **kind, prediction_type=prediction)
    scheduler.set_timesteps(20)
    if spacing != "karras":
        double_sigmas(scheduler, torch.cat([scheduler.timesteps[:1], scheduler.timesteps[1::2]]))
    reference = theirs(scheduler, sigma_scaled(scheduler, begin()))
    schedule = Karras(20) if spacing == "karras" else SPACINGS[spacing][2]
    process = TableProcess(scheduler.alphas_cumprod)
    assert_same(ours(process, prediction, Heun(), schedule, begin(), []), reference)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(
    ("spacing", "betas"), [*((s, b) for s in SPACINGS for b in BETAS), ("karras", "linear"), ("karras", "scaled")]
)
def test_dpm_solver_pp_2m(prediction: str, spacing: str, betas: str) -> None:
    """Not cosine with karras: there they cut fractional clocks to integers, and float32 decides which."""
    kind = {"use_karras_sigmas": True} if spacing == "karras" else {"timestep_spacing": spacing}
    scheduler = diffusers.DPMSolverMultistepScheduler(**BETAS[betas], **kind, prediction_type=prediction)
    scheduler.set_timesteps(20)
    reference = theirs(scheduler, begin())
    schedule = Karras(20, rounded=True) if spacing == "karras" else SPACINGS[spacing][1]
    process = TableProcess(scheduler.alphas_cumprod)
    assert_same(ours(process, prediction, DPMSolver(), schedule, begin(), []), reference)


@pytest.mark.parametrize(("steps", "lower"), [(10, 1e-3), (20, 0.0)])
def test_dpm_solver_that_ends_at_the_first_knot(steps: int, lower: float) -> None:
    """diffusers lowers the order of that last step below 15 steps only."""
    scheduler = diffusers.DPMSolverMultistepScheduler(**BETAS["scaled"], final_sigmas_type="sigma_min")
    scheduler.set_timesteps(steps)
    reference = theirs(scheduler, begin())
    process = TableProcess(scheduler.alphas_cumprod)
    schedule = Linspace(steps, open_end=True, clean_end=False)
    assert_same(ours(process, "epsilon", DPMSolver(first_below=lower), schedule, begin(), []), reference)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_match_euler(shift: float) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(20)
    net, x = Net(), begin()
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(net(x, t), t, x).prev_sample.to(F64)
    last = shift * 1e-3 / (1 + (shift - 1) * 1e-3)  # diffusers shifts the end of its range twice
    schedule = Shifted(20, shift, last)
    assert_same(ours(RectifiedFlow(1000.0), "flow", Euler(), schedule, begin(), []), (net, x))


@pytest.mark.parametrize("betas", BETAS)
def test_tables_are_theirs(betas: str) -> None:
    scheduler = diffusers.DDPMScheduler(**BETAS[betas])
    make = {"linear": TableProcess.linear, "scaled": TableProcess.scaled_linear, "cosine": TableProcess.cosine}
    bar = make[betas]().alphas_cumprod
    assert float((bar - scheduler.alphas_cumprod.double()).abs().max()) < 1e-5


def test_every_number_of_steps_asks_for_the_same_indices() -> None:
    process = TableProcess.linear()
    for n in [*range(1, 60), 100, 128, 250, 333, 500, 999, 1000]:
        for spacing, (ddpm, dpm, _) in SPACINGS.items():
            one = diffusers.DDPMScheduler(timestep_spacing=spacing)
            one.set_timesteps(n)
            assert type(ddpm)(n)(process).clocks.tolist() == one.timesteps.tolist()
            if n < 1000:
                many = diffusers.DPMSolverMultistepScheduler(timestep_spacing=spacing)
                many.set_timesteps(n)
                same = Trailing(n) if spacing == "trailing" else type(dpm)(n, open_end=True)
                assert same(process).clocks.tolist() == many.timesteps.tolist()
        assert all(a > b for a, b in pairwise(Linspace(n)(process).times.tolist()))
