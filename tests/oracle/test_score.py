"""Score-based samplers on the closed-form mixture: their laws, identities, and their twins elsewhere."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import ScoreSdeVeScheduler
from diffusers.schedulers.deprecated.scheduling_sde_vp import ScoreSdeVpScheduler
from torch import Tensor, nn

from huggingvis.core.belief import Belief, Gaussian
from huggingvis.core.diffusion import NetDenoiser
from huggingvis.core.errors import UsageError
from huggingvis.core.grid import Grid
from huggingvis.core.noise import BatchNoise, ReplayNoise
from huggingvis.core.preconditioning import Preconditioned
from huggingvis.core.process import Process
from huggingvis.core.sample import sample
from huggingvis.core.sampler import Sampler
from huggingvis.data.mixture import standard_mixture
from huggingvis.objectives.denoise import Denoising, LogNormal
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.processes.sub_vp import SubVP
from huggingvis.processes.table import TableProcess
from huggingvis.processes.ve import GeometricVE, LinearVE
from huggingvis.processes.vp import LinearVP
from huggingvis.samplers.ddim import DDIM
from huggingvis.samplers.dpm_solver import DPMSolver
from huggingvis.samplers.grids import LogSNR, Uniform
from huggingvis.samplers.heun import Heun
from huggingvis.samplers.langevin import AnnealedLangevin, PredictorCorrector, best_step
from huggingvis.samplers.names import sampler_of
from huggingvis.samplers.reverse_diffusion import EulerMaruyama, ReverseDiffusion

F64 = torch.float64
MANY = 2500


def start(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, 2, dtype=F64, generator=torch.Generator().manual_seed(seed))


def run(process: Process, sampler: Sampler, x: Tensor, grid: Grid, seed: int = 0) -> Tensor:
    return sample(standard_mixture().denoiser(process), process, sampler, x, grid, {}, noise=BatchNoise(seed))


def shares(x: Tensor) -> Tensor:
    nearest = standard_mixture().class_posterior(x, LinearVP(), torch.tensor(0.0, dtype=F64)).argmax(1)
    return torch.bincount(nearest, minlength=3) / len(x)


def assert_law(x: Tensor, errors: float = 4.0) -> None:
    """Mean, covariance and component weights within `errors` standard errors."""
    mixture, n = standard_mixture(), len(x)
    sd = mixture.cov.diagonal().sqrt()
    assert bool(((x.mean(0) - mixture.mean).abs() < errors * sd / n**0.5).all())
    # the variance of a variance is at most 3 sd^4 for these light-tailed components
    assert bool(((torch.cov(x.T) - mixture.cov).abs() < errors * sd[:, None] * sd * (3 / n) ** 0.5).all())
    w = mixture.weights
    assert bool(((shares(x) - w).abs() < errors * (w * (1 - w) / n).sqrt()).all())


@pytest.mark.parametrize(
    ("process", "sampler", "steps"),
    [
        (LinearVP(), ReverseDiffusion(), 250),
        (SubVP(), ReverseDiffusion(), 250),
        (LinearVE(), ReverseDiffusion(), 250),
        (LinearVP(), EulerMaruyama(), 300),
        (SubVP(), EulerMaruyama(), 300),
        (GeometricVE(), EulerMaruyama(), 300),
        (GeometricVE(), PredictorCorrector(ReverseDiffusion(), 0.3, norms=False), 150),
        (LinearVP(), PredictorCorrector(DDIM(), 0.3, 2, norms=False), 100),
        (LinearVE(), PredictorCorrector(Heun(), 0.2, norms=False), 60),
        (LinearVE(), AnnealedLangevin(5), 200),
        (LinearVP(), AnnealedLangevin(5), 200),
        (RectifiedFlow(), AnnealedLangevin(10, 0.05), 120),
    ],
    ids=lambda v: v if isinstance(v, int) else repr(v),
)
def test_samplers_draw_the_mixture(process: Process, sampler: Sampler, steps: int) -> None:
    grid = LogSNR(steps)(process)
    assert_law(run(process, sampler, start(MANY, 3) * process.sigma(grid.times[0]), grid, seed=4))


def test_annealed_langevin_finds_the_weights_and_plain_langevin_does_not() -> None:
    """From the same wide start, with as many calls: at one small noise level a component is never left."""
    process = LinearVE()
    levels = LogSNR(150, 0.05, 20.0)(process)
    begin = 20 * start(MANY, 7)
    assert_law(run(process, AnnealedLangevin(5), begin, levels, seed=8))
    one = Grid(torch.tensor([float(levels.times[-2]), 0.0], dtype=F64))
    plain = run(process, AnnealedLangevin(750, 0.1), start(MANY, 7), one, seed=8)
    w = standard_mixture().weights
    assert float(((shares(plain) - w).abs() / (w * (1 - w) / MANY).sqrt()).max()) > 6


@pytest.mark.parametrize(
    ("largest", "levels", "updates", "size"), [(50, 232, 5, 6.2e-6), (90, 500, 5, 3.3e-6), (190, 1086, 3, 1.8e-6)]
)
def test_technique_4_chooses_the_published_steps(largest: float, levels: int, updates: int, size: float) -> None:
    """Of arXiv 2006.09011, Table 4, whose smallest level is 0.01: eps = eta 1e-4."""
    gamma = (largest / 0.01) ** (1 / (levels - 1))
    assert best_step(gamma, updates) * 1e-4 == pytest.approx(size, rel=0.03)
    assert best_step(math.inf, 5) == 0.0


def test_ncsn_algorithm_1_written_out() -> None:
    process, mixture, sigmas = LinearVE(), standard_mixture(), [3.0, 1.0, 0.3, 0.1]
    x, draws = 3 * start(6), [start(6, 50 + i) for i in range(12)]
    left, y, eps = list(draws), x, 2e-3
    for sigma in sigmas:
        a = eps * sigma**2 / sigmas[-1] ** 2
        for _ in range(3):
            score = mixture.score(y, process, torch.tensor(sigma / 80, dtype=F64))
            y = y + a / 2 * score + a**0.5 * left.pop(0)
    grid = Grid(torch.tensor([*(sigma / 80 for sigma in sigmas), 0.0], dtype=F64))
    sampler = AnnealedLangevin(3, eps / sigmas[-1] ** 2 / 2, denoise=False)
    ours = sample(mixture.denoiser(process), process, sampler, x, grid, {}, noise=ReplayNoise(draws))
    assert float((ours - y).abs().max()) < 1e-12


@pytest.mark.parametrize("predictor", [ReverseDiffusion(), DPMSolver(), Heun()], ids=repr)
def test_without_corrections_it_is_the_predictor(predictor: Sampler) -> None:
    for process in (LinearVP(), GeometricVE()):
        x, grid = start(16), LogSNR(12)(process)
        pc = PredictorCorrector(predictor, corrections=0)
        assert torch.equal(run(process, pc, x, grid, 5), run(process, predictor, x, grid, 5))
        assert pc.order == predictor.order


@pytest.mark.parametrize("dims", [4, 32])
def test_what_the_rule_of_norms_does_to_a_gaussian(dims: int) -> None:
    """The mean of |x|^2 is (1 + 2/D)^2 D, and D where the norms are those of many dimensions.

    Of x <- x - e x + sqrt(2 e) z, e = 2 r^2 |z|^2/|x|^2: since E|z|^2 = D and E[|z|^2 z z^T] = (D + 2) I, small steps
    move R = |x|^2 by dR = 2 D (-1 + (D + 2)/R) du + sqrt(8 (D + 2)) dW, whose stationary law is the docstring's.
    """
    process, t, n, snr = LinearVP(), torch.tensor(0.5, dtype=F64), 2000, 0.12
    x = torch.randn(n, dims, dtype=F64, generator=torch.Generator().manual_seed(1))
    for norms, mean, shape in ((True, (1 + 2 / dims) ** 2 * dims, dims / 2 + 1), (False, dims, dims / 2)):
        sampler = PredictorCorrector(DDIM(), snr, corrections=150, norms=norms)
        # data of unit variance have unit variance at every time of this process
        got, _ = sampler.step(lambda x, t: Gaussian(process.alpha(t) * x), process, x, t, t, None, BatchNoise(2))
        error = 4 * (1 / (shape * n)) ** 0.5 + 2 * snr**2  # of the draws, and of steps that are not infinitely small
        assert float(got.square().sum(1).mean()) == pytest.approx(mean, rel=error)
        assert float(got.mean(0).abs().max()) < 4 * (mean / dims / n) ** 0.5


def test_reverse_diffusion_on_a_table_is_algorithm_3() -> None:
    """x_k = (2 - sqrt(1 - beta)) x_{k+1} + beta score + sqrt(beta) z."""
    table, mixture, x, z = TableProcess.linear(), standard_mixture(), start(8), start(8, 1)
    beta = float(torch.linspace(1e-4, 0.02, 1000, dtype=F64)[600])
    t, s = (table.time_of_index(torch.tensor(k)) for k in (600, 599))
    want = (2 - (1 - beta) ** 0.5) * x + beta * mixture.score(x, table, t) + beta**0.5 * z
    got, _ = ReverseDiffusion().step(lambda x, t: mixture.denoiser(table)(x, t, {}), table, x, t, s, None,
                                     ReplayNoise([z]))  # fmt: skip
    assert float((got - want).abs().max()) < 1e-12


def test_predictor_and_corrector_are_those_of_diffusers() -> None:
    """Their loop corrects before each prediction, ours after it; so one step of each is compared, for one sample."""
    theirs = ScoreSdeVeScheduler(num_train_timesteps=50, snr=0.16, sigma_min=0.01, sigma_max=50.0)
    theirs.set_timesteps(50)
    theirs.set_sigmas(50)
    sigmas, k = theirs.discrete_sigmas.double(), 30
    process, mixture, x = LinearVE(), standard_mixture(), 2 * start(1)
    t, s = sigmas[k] / 80, sigmas[k - 1] / 80

    def denoise(x: Tensor, t: Tensor) -> Belief:
        return mixture.denoiser(process)(x, t, {})

    torch.manual_seed(3)
    score = mixture.score(x, process, t)
    predicted = theirs.step_pred(score, theirs.timesteps[49 - k], x, generator=torch.Generator().manual_seed(1))
    z = (predicted.prev_sample - predicted.prev_sample_mean) / (sigmas[k] ** 2 - sigmas[k - 1] ** 2).sqrt()
    y = predicted.prev_sample
    corrected = theirs.step_correct(mixture.score(y, process, s), y, generator=torch.Generator().manual_seed(2))
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=y.dtype)
    ours, _ = PredictorCorrector(ReverseDiffusion()).step(denoise, process, x, t, s, None, ReplayNoise([z, noise]))
    assert float(((ours - corrected.prev_sample) / corrected.prev_sample).abs().max()) < 1e-5


def test_euler_maruyama_is_that_of_diffusers() -> None:
    """Each of their steps, which go on by 1/N whatever their next time is, from where theirs came to."""
    theirs, process, mixture, x = ScoreSdeVpScheduler(), LinearVP(), standard_mixture(), start(6)
    theirs.set_timesteps(50)
    for t in theirs.timesteps.double()[:-1]:
        eps = process.eps(x, mixture.x0(x, process, t), t)
        want, _ = theirs.step_pred(eps, x, t, generator=torch.Generator().manual_seed(1))
        z = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=F64)
        got, _ = EulerMaruyama().step(lambda x, t: mixture.denoiser(process)(x, t, {}), process, x, t, t - 1 / 50, None,
                                      ReplayNoise([z]))  # fmt: skip
        assert float((got - want).abs().max()) < 1e-5 * float(want.abs().max())
        x = want


class Told(nn.Module):
    """A small net of x [B, 2] and of the noise level's logarithm."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        sizes = [nn.Linear(3, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2)]
        self.layers = nn.Sequential(*sizes)

    def forward(self, x: Tensor, clock: Tensor, cond: object) -> Tensor:
        told: Tensor = self.layers(torch.cat([x, 4 * clock.to(x).expand(len(x))[:, None]], dim=1))
        return told


def test_a_score_that_is_learnt_points_where_the_true_one_does() -> None:
    """Denoising score matching teaches a small net the mixture's score at every noise level: mean cosine over .99."""
    torch.manual_seed(0)
    process, prediction, mixture, steps = LinearVE(), Preconditioned(1.2), standard_mixture(), 1500
    net, rng = Told(), torch.Generator().manual_seed(1)
    objective = Denoising(net, process, prediction, LogNormal(process, -0.7, 1.0))
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    data = mixture.sample(20_000, rng).float()
    for step in range(steps):
        optimiser.zero_grad()
        batch = data[torch.randint(0, len(data), (512,), generator=rng)]
        objective.loss({"x0": batch}, step, rng)["mse"].backward()
        optimiser.step()
        falling.step()
    for level in (0.3, 0.5, 1.0, 3.0):
        t = torch.tensor(level / 80, dtype=F64)
        x = process.add_noise(mixture.sample(1000, torch.Generator().manual_seed(2)), start(1000, 3), t)
        with torch.no_grad():
            learnt = process.score(x, NetDenoiser(net, process, prediction)(x.float(), t, {}).x0.double(), t)
        assert float(torch.cosine_similarity(learnt, mixture.score(x, process, t)).mean()) > 0.99


def test_numbers_that_make_no_sense_are_refused() -> None:
    for wrong in (lambda: AnnealedLangevin(0), lambda: AnnealedLangevin(5, 1.0)):
        with pytest.raises(UsageError, match="at least one update"):
            wrong()
    with pytest.raises(UsageError, match="positive signal-to-noise"):
        PredictorCorrector(DDIM(), snr=0.0)
    assert sampler_of("ScoreSdeVeScheduler") == PredictorCorrector(ReverseDiffusion())
    assert float(run(LinearVP(), AnnealedLangevin(), start(4), Uniform(3)(LinearVP())).isnan().sum()) == 0
