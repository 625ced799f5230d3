"""Grids beside their formulas, written out; the beta law beside scipy's; restarts beside the mixture."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from scipy import stats
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.noise import BatchNoise
from huggingvis.core.process import Process
from huggingvis.core.sample import sample
from huggingvis.data.mixture import standard_mixture
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.processes.table import TableProcess
from huggingvis.processes.ve import LinearVE
from huggingvis.processes.vp import LinearVP
from huggingvis.samplers._beta_law import distribution, quantile
from huggingvis.samplers.grids import (
    AlignYourSteps,
    Beta,
    BetaIndex,
    DDIMUniform,
    Interval,
    Karras,
    KLOptimal,
    Linspace,
    LogSNR,
    Polyexponential,
    Restart,
    Simple,
    Uniform,
)  # fmt: skip
from huggingvis.samplers.grids.published import SD1, SVD
from huggingvis.samplers.grids.restart import usual
from huggingvis.samplers.heun import Heun

F64 = torch.float64
TABLE = TableProcess.scaled_linear()
RHO = torch.exp(-(torch.log(TABLE.alphas_cumprod) - torch.log1p(-TABLE.alphas_cumprod)) / 2)  # [T], rising


def rho_of(process: Process, times: Tensor) -> Tensor:
    return torch.exp(-process.log_snr(times) / 2)


@pytest.mark.parametrize(("a", "b"), [(0.6, 0.6), (0.2, 0.9), (2.0, 5.0), (8.0, 3.0), (1.0, 1.0)])
def test_quantiles_are_scipys(a: float, b: float) -> None:
    for p in (0.0, 1e-9, 1e-4, 0.03, 0.25, 0.5, 0.77, 0.99, 0.99999, 1.0):
        x = quantile(p, a, b)
        assert x == pytest.approx(float(stats.beta.ppf(p, a, b)), rel=1e-10, abs=1e-10)
        assert distribution(x, a, b) == pytest.approx(p, abs=1e-10)
    with pytest.raises(UsageError, match="two positive shapes"):
        quantile(0.5, -1.0, b)


def test_beta_levels() -> None:
    want = [float(RHO[0]) + q * float(RHO[-1] - RHO[0]) for q in stats.beta.ppf(1 - torch.linspace(0, 1, 8), 0.6, 0.6)]
    got = rho_of(TABLE, Beta(8)(TABLE).times[:-1])
    assert got.tolist() == pytest.approx(want, rel=1e-6)


def test_beta_index() -> None:
    """ComfyUI's: whole numbers at the quantiles of the way down, without its end, and each once."""
    for steps in (8, 20, 300):
        want: list[float] = []
        for i in range(steps):
            k = float(round(999 * float(stats.beta.ppf(1 - i / steps, 0.6, 0.6))))
            if not want or want[-1] != k:
                want.append(k)
        clocks = BetaIndex(steps)(TABLE).clocks
        assert clocks is not None and clocks.tolist() == want


@pytest.mark.parametrize("steps", [1, 7, 20, 30, 333])
def test_simple(steps: int) -> None:
    clocks = Simple(steps)(TABLE).clocks
    assert clocks is not None and clocks.tolist() == [999 - int(i * (1000 / steps)) for i in range(steps)]


@pytest.mark.parametrize("steps", [7, 20, 30])
def test_ddim_uniform(steps: int) -> None:
    clocks = DDIMUniform(steps)(TABLE).clocks
    assert clocks is not None and clocks.tolist() == list(range(1, 1000, 1000 // steps))[::-1]


def test_sgm_uniform() -> None:
    clocks = Linspace(10, rounded=False, open_end=True)(TABLE).clocks
    assert clocks is not None and clocks.tolist() == pytest.approx([999 - 99.9 * i for i in range(10)])


def test_polyexponential() -> None:
    low, high = math.log(0.002), math.log(80.0)
    want = [math.exp((1 - i / 8) ** 2.5 * (high - low) + low) for i in range(9)]
    assert rho_of(LinearVE(), Polyexponential(9, 2.5)(LinearVE()).times[:-1]).tolist() == pytest.approx(want, rel=1e-9)
    assert float((Polyexponential(9)(TABLE).times - LogSNR(9)(TABLE).times).abs().max()) < 1e-12


def test_kl_optimal() -> None:
    """ComfyUI's N levels and clean data, A1111's N + 1 levels."""
    low, high = math.atan(0.002), math.atan(80.0)
    closed, open_end = KLOptimal(9)(LinearVE()), KLOptimal(9, open_end=True)(LinearVE())
    want = [math.tan(i / 8 * low + (1 - i / 8) * high) for i in range(9)]
    assert rho_of(LinearVE(), closed.times[:-1]).tolist() == pytest.approx(want, rel=1e-9)
    want = [math.tan(i / 9 * low + (1 - i / 9) * high) for i in range(10)]
    assert rho_of(LinearVE(), open_end.times).tolist() == pytest.approx(want, rel=1e-9) and len(open_end) == 9


def test_align_your_steps() -> None:
    """Ten steps are the table; others lie log-linearly between; A1111 calls at all of the eleven."""
    process = LinearVE(1000.0)
    assert rho_of(process, AlignYourSteps(10, SVD)(process).times[:-1]).tolist() == pytest.approx(SVD[:-1], rel=1e-9)
    assert rho_of(process, AlignYourSteps(11, all_called=True)(process).times[:-1]).tolist() == pytest.approx(SD1)
    twenty = rho_of(process, AlignYourSteps(20)(process).times[:-1])
    assert twenty[::2].tolist() == pytest.approx(SD1[:-1])
    assert twenty[1::2].tolist() == pytest.approx([math.sqrt(a * b) for a, b in pairwise(SD1)])
    with pytest.raises(UsageError, match="does not tell apart"):
        AlignYourSteps(10, SVD)(TABLE)


def test_zero_terminal_snr_keeps_its_beginning() -> None:
    bar = TABLE.zero_terminal_snr().alphas_cumprod
    root, last = TABLE.alphas_cumprod.sqrt(), float(TABLE.alphas_cumprod[-1].sqrt())
    want = (root - last) * root[0] / (root[0] - last)
    assert float((bar.sqrt() - want).abs().max()) < 1e-12
    assert float(bar[-1]) == 0.0 and float(bar[0]) == pytest.approx(float(TABLE.alphas_cumprod[0]), rel=1e-12)


# ---- restart --------------------------------------------------------------------------------------------------------


def test_restarts_rise_and_fall() -> None:
    process = LinearVE()
    inner = Karras(8)
    grid = Restart(inner, (Interval(times=2, steps=3, low=0.1, high=2.0),))(process)
    assert len(grid) == 8 + 2 * (3 + 1)  # a rise is a step of the grid, and no call
    rises = (grid.times.diff() > 0).nonzero().flatten().tolist()
    assert len(rises) == 2
    nearest = inner(process).times[1:-1]
    nearest = nearest[(rho_of(process, nearest) - 0.1).abs().argmin()]
    for k in rises:
        assert float(grid.times[k]) == float(nearest) and float(rho_of(process, grid.times[k + 1])) == pytest.approx(
            2.0
        )
        assert float(grid.times[k + 4]) == float(nearest)
    assert torch.equal(Restart(inner, (Interval(times=0),))(process).times, inner(process).times)
    table = Restart(Linspace(20), (Interval(),))(TABLE)
    assert table.clocks is not None and torch.allclose(table.clocks, TABLE.clock(table.times[:-1]))
    with pytest.raises(UsageError, match="inner grid"):
        Restart(Uniform(2), (Interval(low=0.01, high=0.02),))(RectifiedFlow())


@pytest.mark.parametrize("steps", [10, 24, 40])
def test_the_usual_restart_calls_as_often_as_it_is_asked_to(steps: int) -> None:
    grid = usual(steps)(TABLE)
    assert int((grid.times.diff() < 0).sum()) == steps


@pytest.mark.parametrize("process", [LinearVE(), LinearVP()], ids=repr)
def test_restarts_draw_the_mixture(process: Process) -> None:
    n, mixture = 2500, standard_mixture()
    grid = Restart(Karras(24), (Interval(2, 12, 0.1, 2.0),))(process)
    x = torch.randn(n, 2, dtype=F64, generator=torch.Generator().manual_seed(1)) * process.sigma(grid.times[0])
    denoise = mixture.denoiser(process)
    got = sample(denoise, process, Heun(), x, grid, {}, noise=BatchNoise(2))
    sd = mixture.cov.diagonal().sqrt()
    assert bool(((got.mean(0) - mixture.mean).abs() < 4 * sd / n**0.5).all())
    assert bool(((torch.cov(got.T) - mixture.cov).abs() < 4 * sd[:, None] * sd * (3 / n) ** 0.5).all())
    nearest = mixture.class_posterior(got, process, torch.tensor(0.0, dtype=F64)).argmax(1)
    share = torch.bincount(nearest, minlength=3) / n
    assert bool(((share - mixture.weights).abs() < 4 * (mixture.weights * (1 - mixture.weights) / n).sqrt()).all())
