"""Soft diffusion: what it is where C_t is a number, its score and samplers on Gaussian pictures, its shortest path."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from huggingvis.core.belief import Belief, Gaussian
from huggingvis.core.errors import UsageError
from huggingvis.core.noise import BatchNoise, ReplayNoise
from huggingvis.core.process import X0, Eps, Prediction, Process, Residual
from huggingvis.core.protocols import Cond
from huggingvis.core.sample import sample
from huggingvis.core.sampler import Sampler
from huggingvis.data.mixture import standard_mixture
from huggingvis.metrics.frechet import frechet_gaussian
from huggingvis.objectives.denoise import Denoising, UniformTimes
from huggingvis.objectives.restoration import SoftScore
from huggingvis.processes.blur import BlurNoise, Path, cosines, spectrum
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.processes.shortest_path import Moments, shortest_path, standard
from huggingvis.processes.table import TableProcess
from huggingvis.processes.ve import GeometricVE, LinearVE
from huggingvis.processes.vp import CosineVP, LinearVP
from huggingvis.samplers.ddim import DDIM
from huggingvis.samplers.grids import LogSNR, Uniform
from huggingvis.samplers.momentum import Momentum, Naive
from huggingvis.samplers.reverse_diffusion import ReverseDiffusion

F64 = torch.float64
H, W = 4, 5
PATH = Path(tuple(0.25 * i / 20 for i in range(21)), tuple(0.3 * (i / 20) ** 0.5 for i in range(21)))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


class Says(nn.Module):
    """Answers with something that depends on the data and the clock, in numbers that float32 holds exactly."""

    def forward(self, x: Tensor, clock: Tensor, cond: Cond) -> Tensor:
        told: Tensor = torch.sin(3 * x.flip(-1) + clock[:, None, None, None]).float().double()
        return told


def named(process: Process) -> str:
    """Without an address, so that every process that runs tests calls them the same."""
    return type(process).__name__


@pytest.mark.parametrize("process", [GeometricVE(0.1, 5.0), LinearVP(), CosineVP(), TableProcess.linear()], ids=named)
def test_soft_score_matching_is_the_loss_of_noise_where_the_signal_is_a_number(process: Process) -> None:
    """C_t = I is NCSN's loss and C_t = sqrt(alpha-bar) I DDPM's."""
    batch, times = {"x0": normal(6, 1, H, W)}, UniformTimes(0.05)
    each = [
        Denoising(Says(), process, Eps(), times, error=error).errors(batch, torch.Generator().manual_seed(0))[0]
        for error in (None, SoftScore())
    ]
    assert float(each[0].min()) > 0.1 and float((each[1] / each[0] - 1).abs().max()) < 1e-10


def test_soft_score_matching_of_blur_without_width_is_that_of_noise() -> None:
    """The operator C_t = I, and the same beliefs by another prediction."""
    sigmas = tuple(0.4 * i / 10 for i in range(11))
    blur, ve = BlurNoise(Path((0.0,) * 11, sigmas)), LinearVE(0.4)
    batch, times = {"x0": normal(6, 1, H, W)}, UniformTimes(0.1)

    def lost(process: Process, prediction: Prediction) -> Tensor:
        class Told(nn.Module):
            def forward(self, x: Tensor, clock: Tensor, cond: Cond) -> Tensor:
                belief = torch.sin(3 * x)
                return belief if isinstance(prediction, X0) else belief - x

        return Denoising(Told(), process, prediction, times, error=SoftScore()).errors(
            batch, torch.Generator().manual_seed(0)
        )[0]

    want = lost(ve, X0())
    for process, prediction in ((blur, X0()), (blur, Residual()), (ve, Residual())):
        assert float((lost(process, prediction) / want - 1).abs().max()) < 1e-10


@pytest.mark.parametrize("process", [GeometricVE(0.02, 8.0), LinearVE(20.0)], ids=repr)
def test_momentum_on_ve_is_the_reverse_diffusion_predictor(process: Process) -> None:
    x, grid = 8 * normal(16, 2), LogSNR(12)(process)
    draws = [normal(16, 2, seed=i) for i in range(1, 13)]
    denoise = standard_mixture().denoiser(process)
    one, other = (
        sample(denoise, process, sampler, x, grid, {}, noise=ReplayNoise(draws))
        for sampler in (Momentum(), ReverseDiffusion())
    )
    assert float((one - other).abs().max()) < 1e-10


@pytest.mark.parametrize(
    "process", [LinearVP(), CosineVP(), GeometricVE(), RectifiedFlow(), TableProcess.linear()], ids=named
)
def test_the_ode_of_momentum_is_ddim(process: Process) -> None:
    x, grid, denoise = normal(16, 2), Uniform(20, 0.98)(process), standard_mixture().denoiser(process)
    x = x * process.sigma(grid.times[0])
    one, other = (
        sample(denoise, process, sampler, x, grid, {}, noise=BatchNoise(0))
        for sampler in (Momentum(fresh=False), DDIM())
    )
    assert float((one - other).abs().max()) < 1e-9


def test_momentum_on_the_operator_1_is_momentum_on_ve() -> None:
    sigmas = tuple(0.4 * i / 10 for i in range(11))
    blur, ve, x = BlurNoise(Path((0.0,) * 11, sigmas)), LinearVE(0.4), normal(4, 1, H, W)

    def belief(x: Tensor, t: Tensor, cond: Cond) -> Belief:
        return Gaussian(torch.sin(3 * x) * (1 - t))

    for sampler in (Momentum(), Momentum(fresh=False), Naive()):
        one, other = (
            sample(belief, p, sampler, x, Uniform(9)(p), {}, noise=BatchNoise(3)) for p in (blur, ve)
        )  # fmt: skip
        assert float((one - other).abs().max()) < 1e-12


@pytest.mark.parametrize("process", [BlurNoise(PATH), LinearVP()], ids=named)
def test_a_step_to_clean_data_ends_at_the_belief(process: Process) -> None:
    """Without noise of its own: what is drawn for the last step would stay in the picture."""
    x, belief, zero = normal(3, 1, H, W), normal(3, 1, H, W, seed=1), torch.tensor(0.0, dtype=F64)
    for sampler in (Momentum(), Momentum(fresh=False), Naive()):
        t = torch.tensor(0.3, dtype=F64)
        found, _ = sampler.step(lambda x, t: Gaussian(belief), process, x, t, zero, None, BatchNoise(0))
        assert float((found - belief).abs().max()) < 1e-12


@pytest.mark.parametrize(("process", "steps"), [(LinearVP(), 250), (LinearVE(), 250), (RectifiedFlow(), 250)], ids=repr)
def test_momentum_draws_the_mixture(process: Process, steps: int) -> None:
    n, mixture, grid = 2500, standard_mixture(), LogSNR(steps)(process)
    x = normal(n, 2, seed=3) * process.sigma(grid.times[0])
    got = sample(mixture.denoiser(process), process, Momentum(), x, grid, {}, noise=BatchNoise(4))
    sd = mixture.cov.diagonal().sqrt()
    assert bool(((got.mean(0) - mixture.mean).abs() < 4 * sd / n**0.5).all())
    assert bool(((torch.cov(got.T) - mixture.cov).abs() < 4 * sd[:, None] * sd * (3 / n) ** 0.5).all())
    nearest = mixture.class_posterior(got, process, torch.tensor(0.0, dtype=F64)).argmax(1)
    share = torch.bincount(nearest, minlength=3) / n
    assert bool(((share - mixture.weights).abs() < 4 * (mixture.weights * (1 - mixture.weights) / n).sqrt()).all())


class GaussianPictures:
    """x_0 = V^T sqrt(P) z in the cosine basis V: on blur with noise every frequency k is a Gaussian of its own.

    x_t has the variance S_k^2 = c_k^2 P_k + sigma^2, E[x_0 | x_t] = c_k P_k/S_k^2 x_t, and the probability flow keeps
    x_t/S_k.
    """

    def __init__(self) -> None:
        self.process = BlurNoise(PATH)
        k, j = torch.arange(H)[:, None], torch.arange(W)
        self.power = 1.5 / (1 + k**2 + j**2).to(F64)  # [H, W]

    def into(self, x: Tensor) -> Tensor:
        return cosines(H) @ x @ cosines(W).T

    def back(self, z: Tensor) -> Tensor:
        return cosines(H).T @ z @ cosines(W)

    def moments(self, t: Tensor) -> tuple[Tensor, Tensor]:
        c = spectrum(self.process.width(t) * H, H, W)
        return c, c**2 * self.power + self.process.sigma(t) ** 2

    def __call__(self, x: Tensor, t: Tensor, cond: Cond) -> Belief:
        c, variance = self.moments(t)
        return Gaussian(self.back(c * self.power / variance * self.into(x)))

    def drawn(self, sampler: Sampler, start: Tensor, steps: int) -> Tensor:
        """Where `sampler` takes the standard normal `start`, in the basis and as shares of the deviation of x_0."""
        grid = Uniform(steps)(self.process)
        x = self.back(start * self.moments(grid.times[0])[1].sqrt())
        return self.into(sample(self, self.process, sampler, x, grid, {}, noise=BatchNoise(1))) / self.power.sqrt()


def test_the_score_of_blurred_pictures() -> None:
    data, x, t = GaussianPictures(), normal(3, 1, H, W), torch.tensor(0.6, dtype=F64)
    belief = data(x, t, {})
    assert isinstance(belief, Gaussian)
    want = data.back(-data.into(x) / data.moments(t)[1])
    assert float((data.process.score(x, belief.x0, t) - want).abs().max()) < 1e-10
    eps = data.process.eps(x, belief.x0, t)
    assert float((eps + data.process.sigma(t) * want).abs().max()) < 1e-10


def test_the_flow_of_blurred_pictures_is_solved_to_first_order() -> None:
    data, z = GaussianPictures(), normal(8, 1, H, W)
    errors = [float((data.drawn(Momentum(fresh=False), z, n) - z).norm() / z.norm()) for n in (50, 100, 200, 400)]
    assert errors[-1] < 0.03
    slopes = [math.log2(a / b) for a, b in pairwise(errors)]
    assert slopes[-1] == pytest.approx(1.0, abs=0.15)


def test_momentum_draws_blurred_pictures_and_naive_does_not() -> None:
    """Every frequency comes out with its own variance; the naive sampler forgets what it was believing."""
    n, data = 1500, GaussianPictures()
    z = normal(n, 1, H, W)
    spread = data.drawn(Momentum(), z, 200).var(0)
    assert bool(((spread - 1).abs() < 4 * math.sqrt(2 / n) + 0.03).all())  # the bias of 200 steps is within 0.03
    assert float(data.drawn(Naive(), z, 200).var(0).min()) < 0.5


def test_the_distance_of_two_levels_is_the_wasserstein_distance() -> None:
    """Against the formula with matrix roots, in pixels."""
    x = normal(200, 1, 2, 3) + 0.4 * normal(200, 1, 1, 1, seed=1) + 0.3
    widths, sigmas = torch.tensor([0.0, 0.6], dtype=F64), torch.tensor([0.1, 0.5], dtype=F64)
    moments = Moments.of(x)
    points = standard(moments, widths, sigmas)
    basis = torch.kron(cosines(2), cosines(3))
    assert torch.allclose(moments.mean.flatten(), basis @ x.mean(0).flatten())
    spread = basis @ torch.cov(x.flatten(1).T, correction=0) @ basis.T
    assert torch.allclose(moments.power.flatten(), spread.diagonal())

    def law(i: int, j: int) -> tuple[Tensor, Tensor]:
        c = spectrum(widths[i] * 2, 2, 3).flatten()
        variance = c**2 * moments.power.flatten() + sigmas[j] ** 2
        return basis.T @ (c * moments.mean.flatten()), basis.T @ torch.diag(variance) @ basis

    for one, other in (((0, 0), (1, 1)), ((0, 1), (1, 0)), ((0, 0), (0, 1))):
        want = frechet_gaussian(*law(*one), *law(*other))
        assert float((points[one] - points[other]).square().sum()) == pytest.approx(want, rel=1e-8)


def test_the_shortest_path_is_short_and_walked_evenly() -> None:
    x = normal(300, 1, 8, 8).cumsum(2).cumsum(3) / 8
    moments = Moments.of(x)
    widths = torch.cat([torch.zeros(1), torch.logspace(-2, -0.3, 30)]).double()
    sigmas = torch.logspace(-2, 0, 20, dtype=F64)
    found = shortest_path(moments, widths, sigmas, 100)
    assert (found.widths[-1], found.sigmas[1], found.sigmas[-1]) == pytest.approx((float(widths[-1]), 0.01, 1.0))

    def length(path: Path) -> Tensor:
        laws = [standard(moments, torch.tensor([w], dtype=F64), torch.tensor([s], dtype=F64))[0, 0]
                for w, s in zip(path.widths[1:], path.sigmas[1:], strict=True)]  # fmt: skip
        return torch.stack(laws).diff(dim=0).norm(dim=1)

    steps = length(found)
    assert float(steps.max() / steps.min()) < 1.4  # levels lie between those that were searched
    zero, most = (0.0,) * 101, tuple(widths.tolist())
    corner = len(most), len(sigmas)
    detours = (
        Path((0.0,) * (corner[1] + 1) + most[1:], (0.0, *sigmas.tolist(), *(1.0,) * (corner[0] - 1))),
        Path((0.0, *most, *(most[-1],) * (corner[1] - 1)), (0.0, *(0.01,) * corner[0], *sigmas.tolist()[1:])),
        Path((0.0, *torch.linspace(0, most[-1], 100).tolist()), (0.0, *torch.linspace(0.01, 1, 100).tolist())),
    )
    assert all(float(steps.sum()) < 0.97 * float(length(detour).sum()) for detour in detours)
    alone = shortest_path(moments, torch.zeros(1), sigmas, 100)
    assert alone.widths == zero and alone.sigmas[-1] == pytest.approx(1.0)
    with pytest.raises(UsageError, match="rising widths from 0"):
        shortest_path(moments, widths.flip(0), sigmas)
    with pytest.raises(UsageError, match="begin with 0, never fall"):
        Path((0.0, 0.2), (0.1, 0.2))
