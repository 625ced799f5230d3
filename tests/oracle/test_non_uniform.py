"""Components at different speeds: exact laws of a Gaussian mixture, all samplers, wavelets, conditional estimators."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import pytest
import torch
from exact_components import F64, Exact, number, seeded
from torch import Tensor, nn

from huggingvis.codecs.haar import Haar
from huggingvis.core.belief import Belief, Categorical, Gaussian
from huggingvis.core.components import Components, Lockstep
from huggingvis.core.diffusion import Diffusion
from huggingvis.core.errors import UsageError
from huggingvis.core.grid import Grid
from huggingvis.core.noise import BatchNoise, SeedNoise
from huggingvis.core.preconditioning import Preconditioned
from huggingvis.core.process import PREDICTIONS, Eps, Prediction, Process
from huggingvis.core.protocols import Cond
from huggingvis.core.sample import sample
from huggingvis.core.sampler import Sampler
from huggingvis.data.mixture import GaussianMixture, standard_mixture
from huggingvis.guidance.projected import Projected
from huggingvis.objectives.denoise import Denoising, UniformTimes
from huggingvis.objectives.probability_flow import ProbabilityFlow
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.processes.non_uniform import Sped, at_speeds
from huggingvis.processes.sub_vp import SubVP
from huggingvis.processes.table import TableProcess
from huggingvis.processes.ve import GeometricVE
from huggingvis.processes.vp import CosineVP, LinearVP
from huggingvis.recipes.denoiser_training import UNetSizes
from huggingvis.recipes.diffusion import non_uniform
from huggingvis.recipes.sources import Facts
from huggingvis.samplers.ancestral import Ancestral
from huggingvis.samplers.churn import Churn
from huggingvis.samplers.ddim import DDIM
from huggingvis.samplers.dpm_solver import DPMSolver
from huggingvis.samplers.euler import Euler
from huggingvis.samplers.grids import LogSNR, Uniform
from huggingvis.samplers.heun import Heun
from huggingvis.samplers.lms import LMS
from huggingvis.samplers.names import SAMPLERS, SamplerRow
from huggingvis.samplers.unipc import UniPC

BASES: list[Process] = [LinearVP(), CosineVP(), SubVP(), GeometricVE(), RectifiedFlow(), TableProcess.linear()]
BETWEEN_TIMES = {"dpm2", "dpm-solver-2", "dpm-solver-3", "dpm++2s", "dpm++sde", "pndm"}


def uneven(base: Process, speeds: tuple[float, ...] = (1.0, 2.5)) -> Components:
    """Each of the two components of the standard mixture at a speed of its own."""
    return at_speeds(base, speeds, (1, 1), dims=0)


def named(process: Process) -> str:
    """Without an address, so that every process that runs tests calls them the same."""
    return type(process).__name__


@pytest.mark.parametrize("base", BASES, ids=named)
def test_coefficients_of_components(base: Process) -> None:
    """Each component has its part's alpha, sigma and slopes; a clock and a pace are the first part's."""
    process = at_speeds(base, (1.0, 2.0, 0.5), (2, 1, 1))
    t = torch.tensor([0.1003, 0.3003, 0.4503], dtype=F64)  # not at knots, where slopes are one-sided
    assert process.alpha(t).shape == (3, 4, 1, 1) and process.sigma(t[0]).shape == (1, 4, 1, 1)
    for channel, speed in enumerate((1.0, 1.0, 2.0, 0.5)):
        assert torch.equal(process.alpha(t)[:, channel, 0, 0], base.alpha(speed * t))
        assert torch.equal(process.sigma(t)[:, channel, 0, 0], base.sigma(speed * t))
    h = 1e-6
    for got, f in zip(process.derivatives(t), (process.alpha, process.sigma), strict=True):
        assert torch.allclose(got, (f(t + h) - f(t - h)) / (2 * h), rtol=1e-5, atol=1e-7)
    rests = process.derivatives(number(0.9))[0][0, 2, 0, 0]
    assert float(rests) == 0.0 and torch.equal(process.alpha(number(0.9))[0, 2], process.alpha(number(0.6))[0, 2])
    assert torch.equal(process.clock(t), base.clock(t)) and process.pace.pace is process.pace
    part = process.parts[1]
    assert torch.allclose(part.t_of_logsnr(part.log_snr(t)), t, atol=1e-9)
    paced = at_speeds(base, (2.0, 1.0), (2, 1))
    assert torch.equal(paced.clock(t), base.clock(2 * t)) and torch.equal(
        paced.clock(number(0.9)), base.clock(number(1.0))
    )


@pytest.mark.parametrize("base", BASES, ids=named)
def test_marginals_are_the_closed_form(base: Process) -> None:
    """x_t of the mixture has mean A m and covariance A C A + S^2."""
    mixture, process, n = standard_mixture(), uneven(base), 40_000
    x0, eps = mixture.sample(n, seeded(0)), torch.randn(n, 2, dtype=F64, generator=seeded(1))
    for time in (0.05, 0.25, 0.8):
        t = number(time)
        a, s = process.alpha(t)[0], process.sigma(t)[0]
        x = process.add_noise(x0, eps, t)
        want = a[:, None] * mixture.cov * a + torch.diag(s**2)
        sd = want.diagonal().sqrt()
        assert bool(((x.mean(0) - a * mixture.mean).abs() < 4 * sd / n**0.5).all())
        assert bool(((torch.cov(x.T) - want).abs() < 4 * sd[:, None] * sd * (3 / n) ** 0.5).all())
        assert torch.allclose(process.add_noise(x0[:5], eps[:5], t.expand(5)), x[:5])
        later = process.renoise(x[:5], t, number(0.9), eps[5:10])
        r = (process.alpha(number(0.9)) / process.alpha(t)).nan_to_num(1.0)
        extra = process.sigma(number(0.9)) ** 2 - (r * process.sigma(t)) ** 2
        assert torch.allclose(later, r * x[:5] + extra.clamp(min=0).sqrt() * eps[5:10])


@pytest.mark.parametrize("prediction", [*(kind() for kind in PREDICTIONS.values()), Preconditioned(0.7)], ids=repr)
def test_predictions_are_inverted_component_by_component(prediction: Prediction) -> None:
    process = at_speeds(LinearVP(), (1.0, 2.0), (1, 2))
    x0, eps = (torch.randn(4, 3, 2, 2, dtype=F64, generator=seeded(k)) for k in (0, 1))
    t = torch.tensor([0.1, 0.2, 0.3, 0.45], dtype=F64)
    x = process.add_noise(x0, eps, t)
    out = prediction.target(process, x0, eps, t)
    assert torch.allclose(prediction.x0(process, out, x, t), x0, atol=1e-10)
    assert torch.allclose(process.eps(x, x0, t), eps, atol=1e-10)
    assert prediction.clock(process, t).shape == (4,)
    assert torch.equal(prediction.clock(process, t), prediction.clock(LinearVP(), t))


def starts(process: Process, n: int, seed: int = 0, grid: Grid | None = None) -> Tensor:
    t = number(1.0) if grid is None else grid.times[0]
    return torch.randn(n, 2, dtype=F64, generator=seeded(seed)) * process.sigma(t)


WITHOUT_SIZES = [row for row in SAMPLERS if row.name not in ("pc", "annealed-langevin")]


@pytest.mark.parametrize("row", WITHOUT_SIZES, ids=lambda row: row.name)
def test_equal_speeds_are_the_plain_process(row: SamplerRow) -> None:
    """Bit for bit, for every sampler but those that measure how large a score is, which is that of a part here: two
    parts at speed 1 are one process; noise is drawn in the same order."""
    mixture, base = standard_mixture(), LinearVP()
    process, grid = uneven(base, (1.0, 1.0)), LogSNR(8)(base)
    x, sampler = starts(base, 3), row.make(0.5)
    plain = sample(mixture.denoiser(base), base, sampler, x, grid, {}, noise=SeedNoise([1, 2, 3]))
    parted = sample(mixture.denoiser(base), process, sampler, x, grid, {}, noise=SeedNoise([1, 2, 3]))
    assert torch.equal(plain, parted)


def test_equal_speeds_have_the_plain_loss() -> None:
    torch.manual_seed(0)
    net = nn.Conv2d(3, 3, 3, padding=1).double()

    class Net(nn.Module):
        def forward(self, x: Tensor, clock: Tensor, cond: Cond) -> Tensor:
            return net(x) * clock[:, None, None, None]

    x0 = torch.randn(6, 3, 4, 4, dtype=F64, generator=seeded(0))
    losses = {}
    for name, base in (("vp", LinearVP()), ("ve", GeometricVE())):
        for kind, process in (("plain", base), ("parted", at_speeds(base, (1.0, 1.0), (1, 2)))):
            objective = Denoising(Net(), process, Eps(), UniformTimes(1e-5))
            losses[name, kind] = objective.loss({"x0": x0}, 0, seeded(1))["mse"]
        assert torch.equal(losses[name, "plain"], losses[name, "parted"])
    faster = Denoising(Net(), at_speeds(LinearVP(), (1.0, 3.0), (1, 2)), Eps(), UniformTimes(1e-5))
    assert not torch.equal(faster.loss({"x0": x0}, 0, seeded(1))["mse"], losses["vp", "plain"])


@pytest.mark.parametrize("row", SAMPLERS, ids=lambda row: row.name)
def test_every_sampler_walks_or_refuses(row: SamplerRow) -> None:
    """All that call at the grid's times alone end at the data of a point; the others say why not."""
    point = GaussianMixture(torch.ones(1), torch.tensor([[0.3, -0.8]]), torch.zeros(1, 2, 2))
    process = uneven(LinearVP())
    grid = Grid(torch.linspace(1.0, 0.0, 9, dtype=F64))
    sampler = row.make(0.0)

    def walk() -> Tensor:
        return sample(Exact(point, process), process, sampler, starts(process, 4), grid, {}, noise=BatchNoise(0))

    if row.name in BETWEEN_TIMES:
        with pytest.raises(UsageError, match="need it at different ones"):
            walk()
    else:
        assert float((walk() - point.means).abs().max()) < 1e-6


FIRST, LAST = 0.6, 0.05


@cache
def by_runge_kutta() -> tuple[Components, Tensor, Tensor]:
    """A process at two speeds, x at FIRST, and where its probability flow takes it by LAST, to about 1e-7."""
    process, n = uneven(LinearVP(), (1.0, 1.25)), 150
    exact, x = Exact(standard_mixture(), process), torch.randn(8, 2, dtype=F64, generator=seeded(0))

    def slope(x: Tensor, t: float) -> Tensor:
        belief = exact(x, number(t), {})
        assert isinstance(belief, Gaussian)
        return process.velocity(x, belief.x0, number(t))

    end, h = x, (LAST - FIRST) / n
    for i in range(n):
        t = FIRST + i * h
        k1 = slope(end, t)
        k2 = slope(end + h / 2 * k1, t + h / 2)
        k3 = slope(end + h / 2 * k2, t + h / 2)
        end = end + h / 6 * (k1 + 2 * k2 + 2 * k3 + slope(end + h * k3, t + h))
    return process, x, end


@pytest.mark.parametrize("sampler", [DDIM(), Heun(), DPMSolver(), LMS(3), UniPC()], ids=lambda s: type(s).__name__)
def test_order_of_convergence(sampler: Sampler) -> None:
    """As on a plain process, against the velocity's own Runge-Kutta solution, while both parts move."""
    process, x, want = by_runge_kutta()
    base, exact = LinearVP(), Exact(standard_mixture(), process)
    errors = []
    for steps in (16, 32, 64):
        first, last = (float(base.log_snr(number(t))) for t in (FIRST, LAST))
        lam = torch.linspace(first, last, steps + 1, dtype=F64)
        grid = Grid(base.t_of_logsnr(lam))
        got = sample(exact, process, sampler, x, grid, {}, noise=BatchNoise(0))
        errors.append(float((got - want).norm()))
    slopes = [math.log2(a / b) for a, b in pairwise(errors)]
    assert slopes[-1] > sampler.order - 0.35, (errors, slopes)


@pytest.mark.parametrize("sampler", [Ancestral(), DDIM(1.0), DDIM(), Heun()], ids=repr)
@pytest.mark.parametrize("base", [LinearVP(), GeometricVE(0.01, 20.0)], ids=repr)
def test_samplers_draw_the_mixture(sampler: Sampler, base: Process) -> None:
    mixture, process, n = standard_mixture(), uneven(base, (1.0, 1.6)), 2500
    grid = LogSNR(100)(base)
    x = sample(Exact(mixture, process), process, sampler, starts(process, n, 3, grid), grid, {}, noise=BatchNoise(4))
    sd = mixture.cov.diagonal().sqrt()
    assert bool(((x.mean(0) - mixture.mean).abs() < 4 * sd / n**0.5 + 0.01).all())
    assert bool(((torch.cov(x.T) - mixture.cov).abs() < 4 * sd[:, None] * sd * (3 / n) ** 0.5 + 0.01).all())
    nearest = mixture.class_posterior(x, LinearVP(), number(0.0)).argmax(1)
    w = mixture.weights
    found = torch.bincount(nearest, minlength=3) / n
    assert bool(((found - w).abs() < 4 * (w * (1 - w) / n).sqrt()).all())


def test_what_rests_is_left_alone() -> None:
    """A part that is at its end for the first steps keeps its noise, bit for bit, while the other moves."""
    process = uneven(LinearVP(), (1.0, 4.0))
    seen: list[Tensor] = []
    grid = Uniform(8)(process.pace)
    x = starts(process, 3)
    for sampler in (DPMSolver(), LMS(), DDIM(1.0), Heun()):
        seen.clear()
        exact = Exact(standard_mixture(), process)
        sample(exact, process, sampler, x, grid, {}, noise=BatchNoise(0), on_step=lambda step: seen.append(step.x))
        for after in seen[:6]:  # to t = 1/4
            assert torch.equal(after[:, 1], x[:, 1]) and not torch.equal(after[:, 0], x[:, 0])
        assert not torch.equal(seen[6][:, 1], x[:, 1])


def test_refusals() -> None:
    process, mixture = uneven(LinearVP()), standard_mixture()
    exact, x, grid = Exact(mixture, process), starts(process, 2), Uniform(4)(LinearVP())
    with pytest.raises(UsageError, match="core.components.Lockstep"):
        DDIM().step(lambda x, t: exact(x, t, {}), process, x, number(1.0), number(0.5), None, BatchNoise(0))
    with pytest.raises(UsageError, match="solved in one noise level"):
        ProbabilityFlow(exact, process)
    with pytest.raises(UsageError, match="need it at different ones"):
        churned = Euler(Churn(0.2))
        sample(exact, process, churned, 0.5 * x, Grid(grid.times * 0.3), {}, noise=BatchNoise(0))
    with pytest.raises(UsageError, match="are continuous"):
        sample(lambda x, t, cond: Categorical(x), process, DDIM(), x, grid, {}, noise=BatchNoise(0))
    with pytest.raises(UsageError, match="numbered from 0; found those of \\[0, 2\\]"):
        Components((LinearVP(), LinearVP()), torch.tensor([0, 2]))
    with pytest.raises(UsageError, match="a positive number, found 0"):
        Sped(LinearVP(), 0.0)
    with pytest.raises(UsageError, match="one speed: found 1 and 2"):
        at_speeds(LinearVP(), (1.0, 2.0), (3,))


def test_where_the_parts_are_is_found_once_a_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[torch.Size] = []
    places = Components.places

    def counted(self: Components, shape: torch.Size) -> tuple[torch.Tensor, ...]:
        found.append(shape)
        return places(self, shape)

    monkeypatch.setattr(Components, "places", counted)
    process = uneven(CosineVP())
    exact, grid = Exact(standard_mixture(), process), Uniform(8)(process.pace)
    sample(exact, process, DDIM(), starts(process, 5), grid, {}, noise=SeedNoise(range(5)))
    assert len(grid) == 8 and found == [torch.Size([2])]


def test_one_step_is_replayed_and_asked_once() -> None:
    """Heun asks twice a step, whatever the number of parts, and its answers are the network's own."""
    process = uneven(LinearVP())
    calls: list[float] = []
    exact = Exact(standard_mixture(), process)

    def counted(x: Tensor, t: Tensor) -> Belief:
        calls.append(float(t))
        return exact(x, t, {})

    Lockstep(Heun()).step(counted, process, starts(process, 2) * 0.3, number(0.3), number(0.2), None, BatchNoise(0))
    assert calls == [0.3, 0.2]


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_haar_is_orthonormal(levels: int, channels: int) -> None:
    codec, side = Haar(levels), 8
    eye = torch.eye(channels * side * side, dtype=F64).reshape(-1, channels, side, side)
    basis = codec.encode(eye)
    small = side // 2**levels
    assert basis.shape == (len(eye), channels * 4**levels, small, small)
    matrix = basis.flatten(1)
    assert torch.allclose(matrix @ matrix.T, torch.eye(len(eye), dtype=F64), atol=1e-12)
    x = torch.rand(2, channels, side, side, dtype=F64, generator=seeded(0)) * 2 - 1
    assert torch.allclose(codec.decode(codec.encode(x)), x, atol=1e-12)
    assert sum(codec.bands(channels)) == channels * 4**levels and codec.factor == 2**levels
    means = torch.nn.functional.avg_pool2d(x, 2**levels) * 2**levels
    assert torch.allclose(codec.encode(x)[:, :channels], means, atol=1e-12)
    assert torch.allclose(codec.encode(torch.ones_like(x))[:, channels:], torch.zeros(1, dtype=F64), atol=1e-12)


def test_the_recipe_gives_each_band_its_speed() -> None:
    """The small picture's channels at the speed 1, then coarse details, then fine ones; beliefs stay pictures."""
    config = non_uniform.Config(speeds=(1.0, 1.5, 3.0), net=UNetSizes((8,), 1, (0,), 0, 1))
    made = non_uniform.model(config, Facts("pictures", 9, 8, 3))
    speeds = torch.tensor([1.0] * 3 + [1.5] * 9 + [3.0] * 36, dtype=F64)
    assert made.shape == (48, 2, 2) and made.limits == (Projected(Haar(2)),)
    base, found = LinearVP(), made.process.sigma(number(0.3))
    assert torch.allclose(found.flatten(), base.sigma(0.3 * speeds).to(found))


def test_haar_bands_are_details_of_their_size() -> None:
    """A pattern that changes from pixel to pixel is in the fine band; one from pair to pair in the coarse one."""
    stripes = torch.tensor([1.0, -1.0], dtype=F64).repeat(4).expand(1, 1, 8, 8)
    wide = torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=F64).repeat(2).expand(1, 1, 8, 8)
    for picture, energy in ((stripes, (0.0, 0.0, 64.0)), (wide, (0.0, 64.0, 0.0))):
        bands = Haar(2).encode(picture).split(Haar(2).bands(1), 1)
        assert [float(band.square().sum()) for band in bands] == pytest.approx(energy)
    z = 3 * torch.randn(1, 16, 2, 2, dtype=F64, generator=seeded(0))
    kept = Projected(Haar(2))(lambda x, t, cond: Gaussian(x))(z, number(0.5), {})
    assert isinstance(kept, Gaussian)
    assert torch.allclose(Haar(2).join(kept.x0), Haar(2).join(z).clamp(-1, 1), atol=1e-12)


def test_a_diffusion_of_wavelets_draws_correlated_pixels() -> None:
    """The whole chain on Gaussian pictures of known covariance: bands at speeds 1, 1.5 and 2 give it back."""
    codec, n = Haar(2), 4000
    row = 0.2 * 0.8 ** (torch.arange(4)[:, None] - torch.arange(4)).abs().to(F64)
    cov = torch.kron(row, row) / 0.2  # [16, 16]
    matrix = codec.encode(torch.eye(16, dtype=F64).reshape(16, 1, 4, 4)).flatten(1)  # z = x @ matrix
    speeds = (1.0, 1.5, 2.0)
    process = at_speeds(LinearVP(), speeds, codec.bands(1))
    law = GaussianMixture(torch.ones(1), torch.zeros(1, 16), (matrix.T @ cov @ matrix)[None])
    exact = Exact(law, at_speeds(LinearVP(), speeds, codec.bands(1), dims=0))

    def denoise(x: Tensor, t: Tensor, cond: Cond) -> Belief:
        belief = exact(x.flatten(1).double(), t, cond)
        assert isinstance(belief, Gaussian)
        return Gaussian(belief.x0.view_as(x).to(x))

    model = Diffusion(denoise, process, (16, 1, 1), DDIM(), LogSNR(60))
    x = codec.join(model.sample(n, {}, noise=BatchNoise(0))).flatten(1).double()
    assert float((torch.cov(x.T) - cov).abs().max()) < 4 * 0.2 * (2 / n) ** 0.5 + 0.005
