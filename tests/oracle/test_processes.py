"""Processes against what their definitions say, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from huggingvis.core.errors import UsageError
from huggingvis.core.process import PREDICTIONS, Process
from huggingvis.data.mixture import standard_mixture
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.processes.gamma import Between, LinearGamma
from huggingvis.processes.learned_gamma import LearnedGamma
from huggingvis.processes.sub_vp import SubVP
from huggingvis.processes.table import TableProcess
from huggingvis.processes.ve import GeometricVE, LinearVE
from huggingvis.processes.vp import CosineVP, LinearVP

F64 = torch.float64

MAKE: dict[str, Callable[[], Process]] = {
    "linear": LinearVP,
    "cosine": CosineVP,
    "flow": RectifiedFlow,
    "flow-noisy": lambda: RectifiedFlow(sigma_min=0.05),
    "sub-vp": SubVP,
    "geometric": GeometricVE,
    "edm": LinearVE,
    "gamma-linear": LinearGamma,
    "gamma-cosine": lambda: Between(CosineVP()),
    "gamma-flow": lambda: Between(RectifiedFlow()),
    "learned": lambda: learned(),
    "table-linear": TableProcess.linear,
    "table-scaled": TableProcess.scaled_linear,
    "table-cosine": TableProcess.cosine,
    "table-zero": lambda: TableProcess(torch.tensor([0.99, 0.5, 0.1, 0.0], dtype=F64)),
}
TABLES = [name for name in MAKE if name.startswith("table")]
PRESERVING = ["linear", "cosine", "gamma-linear", "gamma-cosine", "learned", *TABLES]


def learned() -> LearnedGamma:
    """With weights that are far from a fresh one's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        process = LearnedGamma(hidden=64, learn_ends=True).requires_grad_(False)
        for p in process.shape.parameters():
            p.add_(torch.randn_like(p))
    return process


@pytest.fixture(params=MAKE)
def process(request: pytest.FixtureRequest) -> Process:
    return MAKE[request.param]()


def times(n: int = 37) -> torch.Tensor:
    return torch.linspace(0.013, 0.987, n, dtype=F64)


def close(a: torch.Tensor, b: torch.Tensor, tol: float = 1e-10) -> None:
    scale = max(1.0, float(b.abs().max()))
    assert float((a - b).abs().max()) <= tol * scale


def test_clean_at_zero_and_falling_signal(process: Process) -> None:
    zero = torch.tensor(0.0, dtype=F64)
    left = process.sigma_min if isinstance(process, RectifiedFlow) else 0.0
    assert float(process.alpha(zero)) == 1.0 and float(process.sigma(zero)) == left
    lam = process.log_snr(torch.linspace(0.001, 1.0, 500, dtype=F64))
    assert bool((lam[1:] < lam[:-1]).all())


@pytest.mark.parametrize("name", PRESERVING)
def test_variance_is_preserved(name: str) -> None:
    process, t = MAKE[name](), torch.linspace(0, 1, 201, dtype=F64)
    close(process.alpha(t) ** 2 + process.sigma(t) ** 2, torch.ones_like(t), 1e-14)


def test_time_of_log_snr_is_the_inverse(process: Process) -> None:
    t = torch.cat([times(), torch.tensor([1e-5, 3e-4, 0.999], dtype=F64)])
    close(process.t_of_logsnr(process.log_snr(t)), t, 1e-12)
    for one in t[::7]:
        close(process.t_of_logsnr(process.log_snr(one)), one, 1e-12)


def test_derivatives_are_autograds(process: Process) -> None:
    t = (times() + 1e-4).requires_grad_()
    for value, ours in zip((process.alpha(t), process.sigma(t)), process.derivatives(t.detach())):
        if value.requires_grad:
            (grad,) = torch.autograd.grad(value.sum(), t)
        else:
            grad = torch.zeros_like(t)
        close(ours, grad, 1e-12)


def test_one_time_and_many_times_agree(process: Process) -> None:
    t = torch.cat([torch.linspace(0, 1, 11, dtype=F64), times(9)])
    for f in (process.alpha, process.sigma):
        close(torch.stack([f(one) for one in t]), f(t), 1e-14)


def test_closed_forms() -> None:
    t = times()
    integral = 0.1 * t + 0.5 * 19.9 * t**2
    close(LinearVP().alpha(t), torch.exp(-integral / 2), 1e-15)
    close(SubVP().sigma(t), 1 - torch.exp(-integral), 1e-15)
    f = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    close(CosineVP().alpha(t) ** 2, f, 1e-14)
    close(CosineVP().sigma(t) ** 2, 1 - f, 1e-14)
    close(GeometricVE().sigma(t) ** 2, 0.01**2 * 5000.0 ** (2 * t) - 0.01**2, 1e-12)
    close(LinearVE().clock(t), torch.log(80 * t) / 4, 1e-15)
    assert float(RectifiedFlow(1000.0).clock(torch.tensor(0.25, dtype=F64))) == 250.0


@pytest.mark.parametrize("name", PREDICTIONS)
def test_predictions_round_trip(process: Process, name: str) -> None:
    g = torch.Generator().manual_seed(1)
    t = times()
    x0, eps = (torch.randn(len(t), 3, dtype=F64, generator=g) for _ in range(2))
    x = process.add_noise(x0, eps, t)
    prediction = PREDICTIONS[name]()
    out = prediction.target(process, x0, eps, t)
    back = prediction.x0(process, out, x, t)
    close(back, x0)
    a, s = process.coefficients(t, x)
    close(process.eps(x, x0, t), eps)
    close(process.v(x, x0, t), a * eps - s * x0)
    close(process.score(x, x0, t) * s, -eps)
    close(process.velocity(x, x0, t), PREDICTIONS["velocity"]().target(process, x0, eps, t))


def test_every_parameterisation_of_the_mixture_is_one_belief(process: Process) -> None:
    mixture = standard_mixture()
    t = torch.tensor(0.4, dtype=F64)
    x = torch.randn(64, 2, dtype=F64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    score = torch.autograd.grad(mixture.log_prob(x, process, t).sum(), x)[0]
    x = x.detach()
    x0 = mixture.x0(x, process, t)
    assert float((mixture.score(x, process, t) - score).abs().max()) < 1e-10 * max(1.0, float(score.abs().max()))
    eps = mixture.eps(x, process, t)
    close(-process.sigma(t) * score, eps)
    for prediction in PREDICTIONS.values():
        out = prediction().target(process, x0, eps, t)
        close(prediction().x0(process, out, x, t), x0)


def test_renoise_keeps_the_marginal(process: Process) -> None:
    t, s = torch.tensor(0.3, dtype=F64), torch.tensor(0.7, dtype=F64)
    one, zero = torch.ones(1, 1, dtype=F64), torch.zeros(1, 1, dtype=F64)
    signal = process.renoise(process.alpha(t) * one, t, s, zero)
    old, new = process.renoise(process.sigma(t) * one, t, s, zero), process.renoise(zero, t, s, one)
    close(signal.squeeze(), process.alpha(s), 1e-13)
    close((old**2 + new**2).sqrt().squeeze(), process.sigma(s), 1e-13)


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_exact_at_their_knots(name: str) -> None:
    table = MAKE[name]()
    assert isinstance(table, TableProcess)
    index = torch.arange(table.steps)
    t = table.time_of_index(index)
    assert bool((table.clock(t) == index).all())
    assert all(float(table.clock(one)) == k for k, one in enumerate(t))
    close(table.alpha(t) ** 2, table.alphas_cumprod, 1e-15)
    each = torch.stack([table.alpha(one) for one in t])
    assert torch.equal(each, table.alphas_cumprod.sqrt())


def test_table_between_knots_is_linear_in_log_snr() -> None:
    table = TableProcess.scaled_linear()
    lam = table.log_snr(table.time_of_index(torch.tensor([500.0, 500.25, 501.0], dtype=F64)))
    close(lam[1], 0.75 * lam[0] + 0.25 * lam[2], 1e-12)
    assert float(table.clock(table.time_of_index(torch.tensor(500.25)))) == pytest.approx(500.25, abs=1e-9)
    rho = torch.exp(-table.log_snr(torch.tensor([5e-4, 1e-3], dtype=F64)) / 2)
    close(2 * rho[0], rho[1], 1e-12)


def test_a_flow_that_leaves_only_noise_is_refused() -> None:
    with pytest.raises(UsageError, match="below 1"):
        RectifiedFlow(sigma_min=1.0)


def test_a_rising_table_is_refused() -> None:
    with pytest.raises(UsageError, match="fall strictly"):
        TableProcess(torch.tensor([0.5, 0.9]))
