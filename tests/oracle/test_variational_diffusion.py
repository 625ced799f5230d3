"""Variational diffusion: the monotone schedule, the bound as a loss, the decoder, and what its theory promises."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from huggingvis.core.errors import UsageError
from huggingvis.core.fourier_features import FourierFeatures
from huggingvis.core.learned_variance import LearnedVariance
from huggingvis.core.process import X0, Eps, Process
from huggingvis.core.sample import sample
from huggingvis.core.sampler import Sampler
from huggingvis.data.mixture import GaussianMixture, standard_mixture
from huggingvis.objectives.continuous_bound import ContinuousBound, InSteps, OverLogSNR, OverTime
from huggingvis.objectives.denoise import Denoising, UniformTimes
from huggingvis.objectives.observed import Lattice, density
from huggingvis.objectives.variational_diffusion import VariationalDiffusion
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.processes.gamma import LEAST, Between, LinearGamma
from huggingvis.processes.learned_gamma import LearnedGamma, Monotone
from huggingvis.processes.vp import CosineVP, LinearVP
from huggingvis.recipes.diffusion import vdm
from huggingvis.recipes.pictures import Facts
from huggingvis.samplers.ancestral import Ancestral
from huggingvis.samplers.ddim import DDIM
from huggingvis.samplers.dpm_solver import DPMSolver
from huggingvis.samplers.grids import Uniform

F64 = torch.float64
START, END = -9.0, 7.0
MANY = 20_000


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def learned(seed: int = 0, spread: float = 1.0, **numbers: bool) -> LearnedGamma:
    """Weights `spread` from those of a fresh one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        process = LearnedGamma(START, END, hidden=16, **numbers)
        with torch.no_grad():
            for p in process.shape.parameters():
                p.add_(spread * torch.randn_like(p))
    return process


class Exact(nn.Module):
    """The perfect net for the mixture, of processes between START and END: it is told how far gamma has come."""

    def __init__(self, mixture: GaussianMixture):
        super().__init__()
        self.mixture, self.line = mixture, LinearGamma(START, END)

    def forward(self, x: Tensor, clock: Tensor, cond: object) -> Tensor:
        t = LEAST + (1 - LEAST) * clock.double()
        return self.mixture.x0(x, self.line, t)


def objective(process: Process, mixture: GaussianMixture, depth: int | None = None) -> VariationalDiffusion:
    simple = Denoising(Exact(mixture), process, X0(), UniformTimes(LEAST))
    return VariationalDiffusion(simple, ContinuousBound(process, density, LEAST, depth=depth))


class Normal:
    """Noise of a whole batch at once."""

    def __init__(self, generator: torch.Generator):
        self.generator = generator

    def draw(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, dtype=like.dtype, generator=self.generator)


def gaussian(std: float = 0.6) -> GaussianMixture:
    return GaussianMixture(torch.ones(1), torch.zeros(1, 2), std**2 * torch.eye(2)[None])


def error(values: Tensor) -> float:
    """Four standard errors of the mean."""
    return 4 * float(values.std()) / len(values) ** 0.5


# ---- the schedule ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spread", [0.0, 1.0, 5.0])
def test_the_network_is_monotone_and_its_slope_is_autograds(seed: int, spread: float) -> None:
    process = learned(seed, spread)
    u = torch.linspace(0, 1, 2001, dtype=F64).requires_grad_()
    gamma = process.gamma(u)
    first, last = gamma.detach()[[0, -1]].tolist()
    assert bool((gamma.diff() > 0).all())
    assert [first, last] == pytest.approx([START, END], abs=1e-12)
    (slope,) = torch.autograd.grad(gamma.sum(), u)
    ours = process.slope(u.detach()).detach()
    assert bool((ours > 0).all())
    assert float(((ours - slope) / slope).abs().max()) < 1e-9
    back = process.u_of(gamma.detach())
    assert float((back - u.detach()).abs().max()) < 1e-13


def test_a_fresh_schedule_is_nearly_straight() -> None:
    torch.manual_seed(0)
    u = torch.linspace(0, 1, 101, dtype=F64)
    assert float((Monotone()(u)[0] - u).detach().abs().max()) < 0.05


def test_processes_between_two_ends_meet_them() -> None:
    for process in (LinearGamma(START, END), Between(CosineVP(), START, END), Between(RectifiedFlow(), START, END)):
        lam = process.log_snr(torch.tensor([LEAST, 1.0], dtype=F64))
        assert lam.tolist() == pytest.approx([-START, -END], rel=1e-9)
        assert process.clock(torch.tensor([LEAST, 1.0], dtype=F64)).tolist() == pytest.approx([0, 1], abs=1e-9)
    inner, t = CosineVP(), torch.tensor(0.3, dtype=F64)
    assert float(Between(inner, START, END).alpha(t)) ** 2 + float(Between(inner, START, END).sigma(t)) ** 2 == (
        pytest.approx(1, abs=1e-14)
    )
    with pytest.raises(UsageError, match="LinearVP ends at gamma = 10.0"):
        Between(LinearVP(), START, 11.0)
    with pytest.raises(UsageError, match="rises from data to noise"):
        LearnedGamma(5.0, -13.3)


@pytest.mark.parametrize(("sampler", "steps"), [(Ancestral(), 120), (DDIM(), 60), (DPMSolver(), 30)])
def test_the_librarys_samplers_sample_on_a_learnt_process(sampler: Sampler, steps: int) -> None:
    """Mean and covariance of the mixture, within Monte-Carlo error and the bias of so many steps."""
    mixture, process = standard_mixture(), learned(3).requires_grad_(False)
    noise = Normal(rng(3))
    x = noise.draw(torch.empty(6000, 2, dtype=F64)) * process.sigma(torch.tensor(1.0, dtype=F64))
    x = sample(mixture.denoiser(process), process, sampler, x, Uniform(steps)(process), {}, noise=noise)
    assert float((x.mean(0) - mixture.mean).abs().max()) < 4 * float(mixture.cov.diagonal().max() / 6000) ** 0.5 + 0.01
    assert float((x.T.cov() - mixture.cov).abs().max()) < 0.08


# ---- the loss -------------------------------------------------------------------------------------------------------


def test_the_shape_of_gamma_leaves_the_loss_alone() -> None:
    """One bound for all shapes between two ends, and it is the mixture's entropy; the variance is the shape's."""
    mixture = standard_mixture()
    x = mixture.sample(MANY, rng(1))
    exact = -mixture.log_prob(x, CosineVP(), torch.tensor(0.0, dtype=F64)) / (2 * math.log(2))
    spreads = []
    shapes = [LinearGamma(START, END), Between(CosineVP(), START, END), Between(LinearVP(), START, END), learned(1)]
    for seed, process in enumerate(shapes):
        with torch.no_grad():
            each = objective(process, mixture).each({"x0": x}, rng(seed))
        gap = each["bits_per_dim"] - exact
        assert abs(float(gap.mean())) < error(gap) + 2e-3  # what is lost at gamma_0, where noise is 1/90
        spreads.append(float(each["steps"].std()))
    assert max(spreads) > 1.15 * min(spreads)


def test_three_ways_of_drawing_the_integral_agree() -> None:
    """Over time, over log-SNR and in many steps: weights of 1 at an error of 1 add up to (SNR_0 - SNR_1)/2."""
    u = (torch.arange(20_480, dtype=F64) + 0.5) / 20_480
    for process in (LinearGamma(-4.0, 3.0), Between(CosineVP(), -4.0, 3.0), learned_between(-4.0, 3.0)):
        for law in (OverTime(process, LEAST), OverLogSNR(process, LEAST), InSteps(process, 64, LEAST)):
            t, weight = law(u)
            assert float(weight.mean()) == pytest.approx((math.exp(4) - math.exp(-3)) / 2, rel=1e-4)
            assert float(t.min()) >= LEAST and float(t.max()) <= 1


def learned_between(start: float, end: float) -> LearnedGamma:
    torch.manual_seed(0)
    return LearnedGamma(start, end, hidden=8).requires_grad_(False)


@pytest.mark.parametrize("steps", [3, 24, 192])
def test_steps_of_a_gaussian_by_closed_form(steps: int) -> None:
    """L_T = sum_k (SNR_s - SNR_t)/2 D S/(1 + S SNR_t) falls to L_inf = D/2 log((1 + S SNR_0)/(1 + S SNR_1))."""
    std = 0.6
    mixture, process = gaussian(std), LinearGamma(START, END)
    x = mixture.sample(MANY, rng(1))

    def closed(count: int) -> float:
        times = LEAST + (1 - LEAST) * torch.arange(count + 1, dtype=F64) / count
        snr = process.log_snr(times).exp()
        return float(((snr[:-1] - snr[1:]) * std**2 / (1 + std**2 * snr[1:])).sum())

    with torch.no_grad():
        found = objective(process, mixture, steps).steps({"x0": x}, rng(2))
        whole = objective(process, mixture).steps({"x0": x}, rng(3))
    limit = math.log1p(std**2 * math.exp(-START)) - math.log1p(std**2 * math.exp(-END))
    assert float(found.mean()) == pytest.approx(closed(steps), abs=error(found))
    assert float(whole.mean()) == pytest.approx(limit, abs=error(whole))
    assert closed(steps) > closed(2 * steps) > limit
    if steps == 192:
        assert (closed(steps) - limit) / (closed(2 * steps) - limit) == pytest.approx(2, abs=0.1)
        assert float(found.mean()) - limit < 0.5


def test_the_ends_by_closed_form() -> None:
    """The prior's KL is that of torch; its slope, and that of the steps, are those of the closed forms."""
    process = learned(2, learn_ends=True)
    bound = ContinuousBound(process, density, LEAST)
    x = torch.tensor([[0.4, -1.1], [0.9, 0.2]], dtype=F64)
    prior = bound.prior(x)
    one = torch.tensor(1.0, dtype=F64)
    alpha, sigma = process.alpha(one).detach(), process.sigma(one).detach()
    q, p = (torch.distributions.Normal(m, sigma) for m in (alpha * x, 0 * x))
    want = torch.distributions.kl_divergence(q, p).sum(1)
    assert prior.tolist() == pytest.approx(want.tolist(), rel=1e-9)
    assert process.ends is not None
    grads = torch.autograd.grad(prior.sum(), [process.ends.start, process.ends.log_width])
    assert [float(g) for g in grads] == pytest.approx(
        [-float(want.sum()), -float(want.sum()) * (END - START)], rel=1e-5
    )
    std = 0.6
    mixture = gaussian(std)
    steps = objective(process, mixture).steps({"x0": mixture.sample(MANY, rng(1))}, rng(2)).mean()
    slope_0, slope_width = torch.autograd.grad(steps, [process.ends.start, process.ends.log_width])
    first, last = (std**2 * math.exp(-g) / (1 + std**2 * math.exp(-g)) for g in (START, END))
    assert float(slope_0) == pytest.approx(last - first, abs=0.05)
    assert float(slope_width) == pytest.approx(last * (END - START), abs=0.3)


def test_the_variance_falls_when_the_shape_is_learnt() -> None:
    mixture, process = standard_mixture(), learned(0, 0.0)
    target = objective(process, mixture)
    names = [(turn.nets, turn.every, turn.name) for turn in target.turns(0)]
    assert names == [(("net",), 1, "loss"), (("gamma",), 4, "variance")]
    assert [turn.nets for turn in objective(process, mixture, 8).turns(0)] == [("net", "gamma")]
    held = mixture.sample(MANY, rng(5))

    def measured() -> Tensor:
        with torch.no_grad():
            return target.steps({"x0": held}, rng(6)) / (2 * math.log(2))

    before, optim = measured(), torch.optim.Adam(process.shape.parameters(), 0.05)
    for step in range(60):
        optim.zero_grad()
        target.variance({"x0": mixture.sample(512, rng(100 + step))}, step, rng(1000 + step))["square"].backward()
        optim.step()
    after = measured()
    assert float(after.var()) < 0.75 * float(before.var())
    assert abs(float(after.mean() - before.mean())) < error(before) + error(after)


# ---- the decoder and the features -----------------------------------------------------------------------------------


def test_the_decoder_is_a_law_of_256_values() -> None:
    """It sums to one for noise far below and far above the distance of two values, and is the plain softmax."""
    values = torch.linspace(-1, 1, 256, dtype=F64)
    for mean in (0.1234, -1.02, 0.997):
        for std in (3e-4, 3e-3, 0.05, 0.7):
            each = Lattice()(values[:, None], torch.full((256, 1), mean, dtype=F64), torch.tensor(std, dtype=F64))
            assert float(each.exp().sum()) == pytest.approx(1, abs=1e-12)
            plain = torch.log_softmax(-0.5 * ((mean - values) / std) ** 2, 0)
            assert float(((each - plain) / plain.clamp(max=-1e-12)).abs().max()) < 1e-6
    picture, spread = values[:12].reshape(1, 3, 2, 2), torch.tensor(6e-3, dtype=F64, requires_grad=True)
    near = picture + spread * torch.randn(1, 3, 2, 2, dtype=F64, generator=rng())
    (ours,) = torch.autograd.grad(Lattice()(picture, near, spread).sum(), spread, retain_graph=True)
    plain = torch.log_softmax(-0.5 * ((near[..., None] - values) / spread) ** 2, -1)
    (theirs,) = torch.autograd.grad(plain.flatten(0, -2)[torch.arange(12), torch.arange(12)].sum(), spread)
    assert float(ours) == pytest.approx(float(theirs), rel=1e-9)


def test_what_is_lost_at_little_noise_is_little() -> None:
    """At the paper's gamma_0 a value is told almost surely; at 100 times its noise most of its bits are lost."""
    x = torch.randint(0, 256, (64, 1, 8, 8), generator=rng()) / 127.5 - 1
    for start, low, high in ((-13.3, 0.0, 0.02), (-4.1, 3.5, 6.5)):
        process = LinearGamma(start, 5.0)
        bits = ContinuousBound(process, least=LEAST).data(x, rng(1)) / (64 * math.log(2))
        assert low <= float(bits.mean()) <= high


def test_fourier_features_are_waves_of_each_channel() -> None:
    process, t = LinearGamma(), torch.tensor(0.5, dtype=F64)
    prediction = FourierFeatures(LearnedVariance(Eps()), (0, 6))
    x = torch.rand(2, 3, 4, 4, generator=rng())
    given = prediction.given(process, x, t)
    assert given.shape == (2, 15, 4, 4) and (prediction.inputs(3), prediction.outputs(3)) == (15, 6)
    want = [x, torch.sin(2 * torch.pi * x), torch.sin(128 * torch.pi * x), torch.cos(2 * torch.pi * x),
            torch.cos(128 * torch.pi * x)]  # fmt: skip
    assert float((given - torch.cat(want, 1)).abs().max()) < 1e-4
    out = torch.randn(2, 6, 4, 4, generator=rng(1))
    assert torch.equal(prediction.belief(process, out, x, t).x0, Eps().x0(process, out[:, :3], x, t))
    assert prediction.belief(process, out, x, t).v is not None


def test_the_recipe_gives_the_net_the_octaves_it_is_told() -> None:
    facts = Facts("mnist", 10, 8, 1)
    for octaves, channels in ((None, 1), ((6, 7), 5), ((2, 3, 4), 7)):
        fresh = vdm.model(vdm.Config(octaves=octaves), facts)
        assert fresh.net.config.in_channels == channels
