"""Samplers beside diffusers' schedulers: one nonlinear network, called by both; what the test files share.

Every call's x (in our scale, where alpha^2 + sigma^2 = 1 or alpha + sigma = 1), the clock value it was told, and the
final sample must agree to 1e-5 of the largest number. Comparing x rather than the noise estimate stays meaningful below
sigma = 0.01. Tables are taken from the scheduler, so that both hold the same float32 values; where diffusers keeps
sigmas or samples in float32 that rounding is what is left.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from huggingvis.core.diffusion import NetDenoiser
from huggingvis.core.noise import ReplayNoise
from huggingvis.core.process import PREDICTIONS, Process
from huggingvis.core.sample import sample
from huggingvis.core.sampler import Sampler
from huggingvis.processes.table import TableProcess
from huggingvis.samplers.grids import Leading, Linspace, Schedule, Trailing

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


def draws(n: int, dtype: torch.dtype = F64) -> list[Tensor]:
    """What diffusers draws from a generator seeded with 3, which for some schedulers is in float32."""
    g = torch.Generator().manual_seed(3)
    return [torch.randn(2, 3, 4, 4, dtype=dtype, generator=g).to(F64) for _ in range(n)]


@torch.no_grad()
def theirs(scheduler: Any, x: Tensor, **step: Any) -> tuple[Net, Tensor]:
    """diffusers' pipeline loop from x, which is in the scheduler's own scale.

    A last step from the first knot to the first knot changes nothing, but for float32, and its call is not counted.
    """
    net = Net()
    for t in scheduler.timesteps:
        before, x = x, scheduler.step(net(scheduler.scale_model_input(x, t).to(F64), t), t, x, **step).prev_sample
    if float((x - before).abs().max()) <= 1e-6 * float(x.abs().max()):
        net.asked.pop()
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
        assert ca == pytest.approx(cb, rel=1e-5, abs=5e-3 if cb % 1 else 0)  # their halfway times are float32
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
