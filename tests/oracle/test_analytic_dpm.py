"""Analytic-DPM: the estimate is the true reverse variance, its bounds hold, its times are the best ones."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import pytest
import torch
from torch import Tensor

from huggingvis.core.belief import Gaussian
from huggingvis.core.errors import UsageError
from huggingvis.core.noise import BatchNoise
from huggingvis.core.process import Process
from huggingvis.core.sample import sample
from huggingvis.data.mixture import GaussianMixture, standard_mixture
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.processes.table import TableProcess
from huggingvis.processes.ve import LinearVE
from huggingvis.processes.vp import LinearVP
from huggingvis.samplers._levels import levels
from huggingvis.samplers.analytic import Analytic, OptimalTimes, fit_analytic, least_path, rising, step_costs
from huggingvis.samplers.ancestral import Ancestral
from huggingvis.samplers.grids import LogSNR
from huggingvis.samplers.variances import BETA, BETA_TILDE, Told, Variance

F64 = torch.float64
SPREAD = 0.6


def tensor(value: float) -> Tensor:
    return torch.tensor(value, dtype=F64)


def isotropic() -> GaussianMixture:
    return GaussianMixture(torch.ones(1), torch.zeros(1, 2), SPREAD**2 * torch.eye(2)[None])


def fitted(process: Process, mixture: GaussianMixture, times: Tensor, n: int = 20_000) -> Analytic:
    """From draws whose second moment is exactly that of the mixture."""
    denoise = mixture.denoiser(process)
    x0 = mixture.sample(n, torch.Generator().manual_seed(0))
    moment = (mixture.cov.diagonal() + mixture.mean**2).mean()
    x0 = x0 * (moment / x0.square().mean()).sqrt()
    return fit_analytic(lambda x, t: denoise(x, t, {}), process, x0, times, torch.Generator().manual_seed(1))


def truth(process: Process, t: float, s: float) -> float:
    """Var[x_s | x_t] of isotropic Gaussian data, from the joint normal of x_s and x_t."""
    c = levels(process, tensor(t), tensor(s))
    var_t, var_s = (a**2 * SPREAD**2 + n**2 for a, n in ((c.a_t, c.s_t), (c.a_s, c.s_s)))
    cov = c.a_t / c.a_s * var_s
    return var_s - cov**2 / var_t


@pytest.mark.parametrize(
    "process", [LinearVP(), TableProcess.linear(), RectifiedFlow()], ids=lambda p: type(p).__name__
)
def test_the_estimate_is_the_true_reverse_variance(process: Process) -> None:
    times = torch.linspace(0.05, 0.95, 7, dtype=F64)
    variance = fitted(process, isotropic(), times)
    for j, t in enumerate(times.tolist()):
        for s in (0.0, 0.5 * t, *times[:j].tolist()):
            c = levels(process, tensor(t), tensor(s))
            assert variance.of_step(c, t) == pytest.approx(truth(process, t, s), abs=1e-3)


def test_the_mixtures_mean_variance_and_the_bounds() -> None:
    """sigma*^2 is beta-tilde + g^2 E Var[x_0 | x_t], and lies within Theorem 2's bounds."""
    process, mixture = LinearVP(), standard_mixture()
    times = torch.tensor([0.1, 0.3, 0.6, 0.9], dtype=F64)
    variance = fitted(process, mixture, times, 50_000)
    x0, rng = mixture.sample(50_000, torch.Generator().manual_seed(2)), torch.Generator().manual_seed(3)
    for t in times:
        x = process.add_noise(x0, torch.randn(x0.shape, dtype=F64, generator=rng), t)
        miss = (x0 - mixture.x0(x, process, t)).square().mean()
        c = levels(process, t, t / 2)
        got = variance.of_step(c, float(t))
        assert got == pytest.approx(c.fresh * c.kept + c.pull**2 * float(miss), rel=0.03)
        least, most = c.fresh * c.kept, c.fresh * c.kept + (c.pull * c.s_t / c.a_t) ** 2
        assert least <= got <= most
    assert Analytic((0.1, 0.9), (0.0, 0.0), 0.5).of_step(c, 0.9) == pytest.approx(c.fresh * c.kept + c.pull**2 * 0.25)
    assert Analytic((0.1, 0.9), (1.2, 1.2)).of_step(c, 0.9) == c.fresh * c.kept


def test_an_imperfect_mean_is_held_to_what_variances_can_be() -> None:
    """A belief that is drawn towards the data's mean, and off where the noise is large, tells Gammas above 1."""
    process, mixture = LinearVP(), isotropic()
    exact, times = mixture.denoiser(process), torch.linspace(0.02, 1, 12, dtype=F64)

    def denoise(x: Tensor, t: Tensor) -> Gaussian:
        told = exact(x, t, {})
        assert isinstance(told, Gaussian)
        return Gaussian(told.x0 + 0.02 * math.sin(40 * float(t)) * x / process.alpha(t))

    x0 = mixture.sample(5_000, torch.Generator().manual_seed(0))
    variance = fit_analytic(denoise, process, x0, times, torch.Generator().manual_seed(1))
    noise = (process.sigma(times) / process.alpha(times)) ** 2
    spread = noise * (1 - torch.tensor(variance.gammas, dtype=F64))
    raw = torch.tensor([float(process.eps(x, denoise(x, t).x0, t).square().mean())
                        for t in times for x in [process.add_noise(x0, torch.randn_like(x0), t)]])  # fmt: skip
    assert float((noise * (1 - raw)).min()) < 0 or float((noise * (1 - raw)).max()) > 2 * SPREAD**2
    assert (spread.diff() > -1e-9).all() and float(spread.max()) <= SPREAD**2 * 1.1 and float(spread[0]) > 0
    grid = OptimalTimes(6, variance)(process).times
    assert float(grid.diff().abs().max()) < 0.6


def test_the_nearest_rising_sequence() -> None:
    values, weights = (
        torch.tensor([1.0, 3.0, 2.0, 2.0, 5.0, -1.0], dtype=F64),
        torch.tensor([1, 1, 1, 2, 3, 1.0], dtype=F64),
    )
    got = rising(values, weights)
    assert got.tolist() == pytest.approx([1, 2.25, 2.25, 2.25, 3.5, 3.5])
    assert torch.equal(rising(got, weights), got)

    def loss(x: Tensor) -> float:
        return float((weights * (x - values) ** 2).sum())

    g = torch.Generator().manual_seed(0)
    others = (got + 0.1 * torch.randn(500, 6, generator=g, dtype=F64)).sort(1).values
    assert min(loss(other) for other in others) >= loss(got)


def divergence(process: Process, variance: Variance, times: list[float]) -> float:
    """KL(q(x_first knot) | p) per dimension of the chain with the exact means, in closed form: all is Gaussian."""
    belief = isotropic().denoiser(process)
    var = float(process.sigma(tensor(times[0]))) ** 2 + float(process.alpha(tensor(times[0]))) ** 2 * SPREAD**2
    one = torch.ones(1, 2, dtype=F64)
    for t, s in pairwise(times):
        c = levels(process, tensor(t), tensor(s))
        told = belief(one, tensor(t), {})
        assert isinstance(told, Gaussian)
        slope = c.pull * float(told.x0[0, 0]) + c.a_t / c.a_s * c.kept
        var = slope**2 * var + float(variance(c, tensor(t), told))
    ratio = (
        float(process.sigma(tensor(times[-1]))) ** 2 + float(process.alpha(tensor(times[-1]))) ** 2 * SPREAD**2
    ) / var
    return (ratio - 1 - math.log(ratio)) / 2


@pytest.mark.parametrize("steps", [2, 5, 10, 50])
def test_few_steps_diverge_less_than_with_beta_or_beta_tilde(steps: int) -> None:
    process = TableProcess.linear()
    times = torch.linspace(1, 1 / 1000, steps + 1, dtype=F64)
    best = divergence(process, fitted(process, isotropic(), times.flip(0)), times.tolist())
    others = [divergence(process, fixed, times.tolist()) for fixed in (BETA, BETA_TILDE)]
    assert best < 0.02 * min(others) and best < 1e-3


def test_dynamic_programming_finds_the_least_of_all_paths() -> None:
    process, mixture = LinearVP(), standard_mixture()
    variance = fitted(process, mixture, torch.linspace(0.02, 1, 12, dtype=F64))
    cost = step_costs(variance, process)

    def total(path: tuple[int, ...]) -> float:
        return sum(float(cost[i, j]) for i, j in pairwise(path))

    for points in (2, 3, 5, 8, 12):
        every = [(0, *middle, 11) for middle in combinations(range(1, 11), points - 2)]
        assert tuple(least_path(cost, points)) == min(every, key=total)
    times = OptimalTimes(5, variance)(process).times
    assert len(times) == 6 and times[0] == 1 and times[-2] == 0.02 and times[-1] == 0
    assert bool((times[:-1] > times[1:]).all())


def test_its_samples_have_the_right_spread_in_four_steps() -> None:
    """Where the variance of a fixed choice is far off."""
    process, mixture, n = LinearVP(), isotropic(), 20_000
    grid = LogSNR(4)(process)
    variance = fitted(process, mixture, grid.times[:-1].flip(0))
    x = torch.randn(n, 2, dtype=F64, generator=torch.Generator().manual_seed(4))
    off = []
    for choice in (variance, BETA, BETA_TILDE):
        got = sample(mixture.denoiser(process), process, Ancestral(choice), x, grid, {}, noise=BatchNoise(5))
        off.append(abs(float(got.std()) / SPREAD - 1))
    assert off[0] < 0.01 and off[1] > 0.1 and off[2] > 0.1


def test_a_model_that_tells_its_own_variance() -> None:
    """log Var[x_0 | x_t] in the belief gives the exact reverse variance."""
    process = LinearVE(10.0)
    t, s = tensor(0.3), tensor(0.1)
    belief = isotropic().denoiser(process)(torch.zeros(1, 2, dtype=F64), t, {})
    noise = float(process.sigma(t)) ** 2
    spread = SPREAD**2 * noise / (SPREAD**2 + noise)
    assert isinstance(belief, Gaussian)
    told = Gaussian(belief.x0, logvar=torch.full((1, 2), math.log(spread), dtype=F64))
    got = Told()(levels(process, t, s), t, told)
    assert torch.allclose(torch.as_tensor(got), torch.full((1, 2), truth(process, 0.3, 0.1), dtype=F64), rtol=1e-12)
    assert Told()(levels(process, t, s), t, belief) == BETA_TILDE(levels(process, t, s), t, belief)


def test_what_it_does_not_know_it_says() -> None:
    variance = Analytic((0.2, 0.4), (0.5, 0.7))
    assert variance.gamma(0.3) == pytest.approx(0.6)
    with pytest.raises(UsageError, match=r"from 0.2 to 0.4 and knows nothing of 0.5"):
        variance.gamma(0.5)
    with pytest.raises(UsageError, match="2 to 2 steps, not 3"):
        OptimalTimes(3, variance)
