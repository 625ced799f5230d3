"""Samplers on the closed-form mixture: order of convergence, law of the samples, identities between methods."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from huggingvis.core.belief import Belief
from huggingvis.core.errors import UsageError
from huggingvis.core.grid import Grid
from huggingvis.core.noise import BatchNoise, ReplayNoise, SeedNoise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Cond, Step
from huggingvis.core.sample import sample
from huggingvis.core.sampler import Sampler
from huggingvis.data.mixture import GaussianMixture, standard_mixture
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.processes.table import TableProcess
from huggingvis.processes.ve import LinearVE
from huggingvis.processes.vp import CosineVP, LinearVP
from huggingvis.samplers.ancestral import Ancestral
from huggingvis.samplers.ancestral_form import AncestralForm
from huggingvis.samplers.churn import Churn
from huggingvis.samplers.consistency import Consistency
from huggingvis.samplers.ddim import DDIM
from huggingvis.samplers.deis import DEIS
from huggingvis.samplers.dpm_sde import DPMSolverSDE
from huggingvis.samplers.dpm_singlestep import DPMSolverSinglestep
from huggingvis.samplers.dpm_solver import DPMSolver, OfData, OfNoise
from huggingvis.samplers.euler import Euler
from huggingvis.samplers.grids import (
    Interval,
    Karras,
    Leading,
    Linspace,
    LogSNR,
    Restart,
    Schedule,
    Shifted,
    Trailing,
    Uniform,
)
from huggingvis.samplers.heun import Heun
from huggingvis.samplers.lms import LMS
from huggingvis.samplers.midpoint import Midpoint
from huggingvis.samplers.names import SAMPLERS, SCHEDULES, sampler_of, schedule_of, split_label
from huggingvis.samplers.plms import PNDM, PseudoRungeKutta
from huggingvis.samplers.sa_solver import SASolver, Tau
from huggingvis.samplers.unipc import UniPC
from huggingvis.samplers.variances import BETA, BETA_TILDE

F64 = torch.float64
NONE = Tau(0.0)
EVERY = [
    Ancestral(BETA), DDIM(0.5), Euler(Churn(0.2)), Heun(1.0), DPMSolver(2, OfNoise()), DPMSolver(2, OfData(0.5)),
    LMS(3, 1.0), SASolver(3, 4, Tau(1.0, 0.0, 1.0), OfNoise), *(row.make(0.0) for row in SAMPLERS),
]  # fmt: skip


def tensor(value: float) -> Tensor:
    return torch.tensor(value, dtype=F64)


def start(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, 2, dtype=F64, generator=torch.Generator().manual_seed(seed))


def by_log_snr(process: Process, n: int, end: float) -> Tensor:
    first, last = (float(process.log_snr(tensor(t))) for t in (1.0, end))
    return process.t_of_logsnr(torch.linspace(first, last, n + 1, dtype=F64))


def rk4(process: Process, x: Tensor, times: Tensor) -> Tensor:
    """The probability-flow ODE by the classical fourth-order method."""
    denoise = standard_mixture().denoiser(process)

    def slope(x: Tensor, t: Tensor) -> Tensor:
        return process.velocity(x, denoise(x, t, {}).x0, t)

    for t, s in pairwise(times):
        h, mid = s - t, (s + t) / 2
        k1 = slope(x, t)
        k2 = slope(x + h / 2 * k1, mid)
        k3 = slope(x + h / 2 * k2, mid)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + slope(x + h * k3, s))
    return x


def run(process: Process, sampler: Sampler, x: Tensor, grid: Grid, seed: int = 0) -> Tensor:
    return sample(standard_mixture().denoiser(process), process, sampler, x, grid, {}, noise=BatchNoise(seed))


@pytest.fixture(scope="module")
def exact() -> tuple[Tensor, Tensor]:
    """16 starts and where the ODE takes them on linear VP from t = 1 to 0.001, to about 1e-10."""
    x = start(16)
    return x, rk4(LinearVP(), x, by_log_snr(LinearVP(), 1000, 1e-3))


@pytest.mark.parametrize(
    ("sampler", "steps", "order", "error"),
    [
        (DDIM(), (40, 80, 160, 320), 1.0, 1e-2),
        (Euler(), (40, 80, 160, 320), 1.0, 1e-2),
        (Heun(), (30, 120), 2.0, 7e-4),
        (Heun(1.0), (30, 120), 2.0, 7e-4),
        (DPMSolver(), (40, 160), 2.0, 6e-4),
        (DPMSolver(2, midpoint=False), (40, 160), 2.0, 6e-4),
        (DPMSolver(2, OfNoise()), (80, 320), 2.0, 1e-4),
        (DPMSolver(3), (80, 320), 2.0, 3e-5),
        (DPMSolver(3, OfNoise()), (80, 320), 2.2, 3e-5),
        (DPMSolverSinglestep(2), (40, 160), 2.0, 3e-4),
        (DPMSolverSinglestep(2, OfData()), (40, 160), 2.0, 3e-4),
        (DPMSolverSinglestep(3), (40, 160), 3.2, 1e-6),
        (DPMSolverSinglestep(3, OfData()), (40, 160), 3.0, 2e-6),
        (Midpoint(), (40, 160), 2.0, 3e-4),
        (LMS(2), (80, 320), 2.0, 4e-4),
        (LMS(3), (80, 320), 2.9, 3e-5),
        (LMS(4), (80, 320), 3.8, 3e-6),
        (LMS(4, tilt=1.0), (80, 320), 3.75, 1e-6),
        (DEIS(2), (80, 320), 2.0, 2e-4),
        (DEIS(3), (40, 160), 3.0, 4e-5),
        (UniPC(1), (40, 160), 2.0, 1e-3),
        (UniPC(2), (40, 160), 3.0, 3e-5),
        (UniPC(2, OfNoise()), (40, 160), 3.0, 3e-5),
        (UniPC(2, linear=True), (40, 160), 3.0, 3e-5),
        (UniPC(3), (40, 80, 160, 320), 3.6, 1e-6),
        (SASolver(2, 2, NONE), (40, 160), 2.0, 1e-3),
        (SASolver(2, 3, NONE), (40, 160), 3.0, 3e-5),
        (SASolver(3, 0, NONE), (160, 640), 3.0, 1e-6),
        (SASolver(4, 0, NONE), (80, 320), 3.8, 3e-5),
        (SASolver(3, 4, NONE, OfNoise, midpoint=False), (40, 80, 160, 320), 3.6, 1e-6),
        (PNDM(), (80, 320), 2.0, 6e-5),
        (PNDM(PseudoRungeKutta()), (80, 320), 2.0, 6e-5),
    ],
)
def test_order_of_convergence(
    exact: tuple[Tensor, Tensor], sampler: Sampler, steps: tuple[int, ...], order: float, error: float
) -> None:
    """By regression. A line through three errors, each at twice the steps, has the slope of its ends: two are run."""
    x, end = exact
    process = LinearVP()
    logs = [
        math.log2(float((run(process, sampler, x, Grid(by_log_snr(process, n, 1e-3))) - end).norm(dim=1).mean()))
        for n in steps
    ]
    n = torch.tensor(steps, dtype=F64).log2()
    slope = torch.linalg.lstsq(torch.stack([n, torch.ones_like(n)], 1), torch.tensor(logs, dtype=F64)[:, None]).solution
    assert float(-slope[0]) == pytest.approx(order, abs=0.25)
    assert 2 ** logs[-1] < error
    assert sampler.order == round(order)


def test_sa_solver_without_noise_is_unipc_and_with_it_dpm_solver_pp() -> None:
    """Two coincidences between papers: tau = 0 with one node more, and tau = 1 with one node and no corrector."""
    x, grid = start(16), Karras(12)(LinearVP())
    for form in (OfData(), OfNoise()):
        want = run(LinearVP(), UniPC(3, form, linear=True), x, grid)
        sampler = SASolver(3, 4, NONE, type(form))
        assert float((run(LinearVP(), sampler, x, grid) - want).abs().max()) < 1e-12
    one = run(LinearVP(), SASolver(1, 0, Tau(1.0, 0.0, 1.0)), x, grid, seed=3)
    assert float((one - run(LinearVP(), DPMSolver(1, OfData(1.0)), x, grid, seed=3)).abs().max()) < 1e-12


def test_second_order_also_on_flow_from_pure_noise() -> None:
    process, x = RectifiedFlow(), start(32)
    end = rk4(process, x, torch.linspace(1, 0.02, 201, dtype=F64))
    for sampler, bound in ((Heun(), 6e-4), (Heun(1.0), 3e-4), (DPMSolver(), 2e-3)):
        errors = [
            float((run(process, sampler, x, Uniform(n, 1, 0.02)(process)) - end).norm(dim=1).mean()) for n in (40, 80)
        ]
        assert errors[1] < bound and errors[0] / errors[1] > 3.2


@pytest.mark.parametrize(
    ("sampler", "steps"),
    [
        (Ancestral(BETA), 150),
        (Ancestral(BETA_TILDE), 200),
        (DDIM(1.0), 200),
        (DPMSolver(2, OfData(1.0)), 40),
        (DPMSolver(3, OfData(1.0)), 40),
        (DPMSolver(2, OfData(0.5)), 40),
        (DPMSolver(2, OfNoise(1.0)), 100),
        (AncestralForm(Midpoint()), 200),
        (AncestralForm(DPMSolverSinglestep(2, OfData())), 200),
        (DPMSolverSDE(), 60),
        (SASolver(), 40),
        (SASolver(3, 4, Tau(1.0, 0.0, 1.0)), 40),
        (SASolver(2, 2, Tau(1.4, 0.0, 1.0)), 60),
        (SASolver(2, 2, Tau(0.7, 0.0, 1.0), OfNoise, midpoint=False), 60),
    ],
)
def test_stochastic_samplers_draw_the_mixture(sampler: Sampler, steps: int) -> None:
    n, process, mixture = 2500, LinearVP(), standard_mixture()
    grid = LogSNR(steps)(process)
    got = run(process, sampler, start(n, 3) * process.sigma(grid.times[0]), grid, seed=4)
    sd = mixture.cov.diagonal().sqrt()
    assert bool(((got.mean(0) - mixture.mean).abs() < 4 * sd / n**0.5).all())
    # the variance of a variance is at most 3 sd^4 for these light-tailed components
    assert bool(((torch.cov(got.T) - mixture.cov).abs() < 4 * sd[:, None] * sd * (3 / n) ** 0.5).all())
    nearest = mixture.class_posterior(got, process, tensor(0.0)).argmax(1)
    share = torch.bincount(nearest, minlength=3) / n
    assert bool(((share - mixture.weights).abs() < 4 * (mixture.weights * (1 - mixture.weights) / n).sqrt()).all())


def test_churn_draws_the_mixture() -> None:
    n, process, mixture = 2500, LinearVE(80.0), standard_mixture()
    grid = Karras(40)(process)
    got = run(process, Heun(churn=Churn(0.3, 0.05, 50.0)), start(n, 5) * process.sigma(grid.times[0]), grid, seed=6)
    sd = mixture.cov.diagonal().sqrt()
    assert bool(((got.mean(0) - mixture.mean).abs() < 4 * sd / n**0.5).all())
    assert bool(((torch.cov(got.T) - mixture.cov).abs() < 4 * sd[:, None] * sd * (3 / n) ** 0.5).all())


def test_edm_algorithm_2_written_out() -> None:
    """Their loop over sigma, on the same perfect denoiser and noise, gives the same samples."""
    process, mixture, x = LinearVE(80.0), standard_mixture(), 80 * start(8)
    draws = [start(8, 100 + i) for i in range(12)]
    sigmas = torch.tensor(
        [(80 ** (1 / 7) + i / 11 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(12)] + [0.0], dtype=F64
    )
    left, y = list(draws), x
    for now, after in pairwise(sigmas):
        hat = now
        if 0.05 <= now <= 50:
            hat = now * 1.25
            y = y + (hat**2 - now**2).sqrt() * 1.003 * left.pop(0)
        d = (y - mixture.x0(y, process, hat / 80)) / hat
        first = y + (after - hat) * d
        if after > 0:
            first = y + (after - hat) * (d + (first - mixture.x0(first, process, after / 80)) / after) / 2
        y = first
    sampler = Heun(churn=Churn(0.25, 0.05, 50.0, 1.003))
    ours = sample(mixture.denoiser(process), process, sampler, x, Karras(12)(process), {}, noise=ReplayNoise(draws))
    assert float((ours - y).abs().max()) < 1e-10


@pytest.mark.parametrize("process", [LinearVP(), CosineVP(), RectifiedFlow(), LinearVE(), TableProcess.linear()])
def test_ddim_with_all_noise_is_ddpm_and_euler_is_ddim(process: Process) -> None:
    x, grid = start(16), Uniform(20, 0.98)(process)
    one, other = run(process, DDIM(1.0), x, grid), run(process, Ancestral(), x, grid)
    assert float((one - other).abs().max()) < 1e-9
    assert torch.equal(run(process, DDIM(), x, grid), run(process, Euler(), x, grid))


def test_ancestral_step_is_bayes() -> None:
    """q(x_s | x_t, x_0) by multiplying two Gaussians, for a table's neighbours and for distant times."""
    for process, t, s in ((TableProcess.linear(), 0.5, 0.499), (CosineVP(), 0.9, 0.3), (RectifiedFlow(), 0.6, 0.2)):
        a_t, s_t, a_s, s_s = (float(f(tensor(v))) for v in (t, s) for f in (process.alpha, process.sigma))
        r, x, x0, z = a_t / a_s, 0.7, -0.4, 1.3
        b = s_t**2 - (r * s_s) ** 2
        precision = r**2 / b + 1 / s_s**2
        mean = (r / b * x + a_s * x0 / s_s**2) / precision
        belief = GaussianMixture(torch.ones(1), torch.full((1, 1), x0, dtype=F64), torch.zeros(1, 1, 1)).denoiser(
            process
        )
        draws = ReplayNoise([torch.full((1, 1), z, dtype=F64)])
        grid, begin = Grid(torch.tensor([t, s], dtype=F64)), torch.full((1, 1), x, dtype=F64)
        got = sample(belief, process, Ancestral(), begin, grid, {}, noise=draws)
        assert float(got) == pytest.approx(mean + z / precision**0.5, abs=1e-10)


@pytest.mark.parametrize("sampler", EVERY, ids=repr)
def test_a_sample_does_not_see_its_batch(sampler: Sampler) -> None:
    process = LinearVP()
    denoise, grid = standard_mixture().denoiser(process), Karras(8)(process)

    def draw(seeds: list[int]) -> Tensor:
        noise = SeedNoise(seeds)
        return sample(denoise, process, sampler, noise.draw(torch.empty(len(seeds), 2)), grid, {}, noise=noise)

    together = draw([5, 6, 7])
    assert torch.equal(draw([6])[0], together[1]) and torch.equal(draw([7, 5])[1], together[0])


@pytest.mark.parametrize("sampler", EVERY, ids=repr)
def test_between_equal_levels_there_is_no_step(sampler: Sampler) -> None:
    """A grid whose times stand twice, equal or up to rounding, is the grid without: same samples, calls and steps."""
    process, x = LinearVP(), start(4)
    plain = Grid(torch.tensor([0.9, 0.6, 0.4, 0.7, 0.3, 0.1], dtype=F64), torch.arange(5.0, dtype=F64))
    up, down = 0.6 * (1 + 2e-16), 0.4 * (1 - 2e-16)
    twice = torch.tensor([0.9, 0.9, 0.9, up, 0.6, 0.4, 0.4, down, 0.7, 0.3, 0.1, 0.1, 0.1], dtype=F64)
    told = torch.tensor([7, 7, 0, 7, 1, 7, 7, 2, 3, 4, 7, 7], dtype=F64)

    def walk(grid: Grid) -> tuple[Tensor, list[float], list[Step]]:
        clocks: list[float] = []
        steps: list[Step] = []

        def denoise(x: Tensor, t: Tensor, cond: Cond) -> Belief:
            clocks.extend(cond["clock"][:1].tolist() if "clock" in cond else [])
            return standard_mixture().denoiser(process)(x, t, {})

        end = sample(denoise, process, sampler, x, grid, {}, noise=BatchNoise(0), on_step=steps.append)
        return end, clocks, steps

    (want, once, each), (got, again, all_of) = walk(plain), walk(Grid(twice, told))
    assert float((got - want).abs().max()) < 1e-12
    assert again == once and [(s.index, s.total) for s in all_of] == [(s.index, s.total) for s in each]


def test_where_grids_repeat_a_level() -> None:
    """Schedules that end at the level of their last call, and a restart that asks for more noise than there is."""
    for table in (TableProcess.linear(), TableProcess.cosine()):
        for schedule in (Karras(9, clean_end=False), Leading(9, clean_end=False), Linspace(9, clean_end=False)):
            assert len(schedule(table)) == 8 and float(schedule(table).times[-1]) == 1e-3
    high = Restart(Karras(9), (Interval(1, 5, high=1e9),))(TableProcess.linear())
    assert len(high) == 9 + 1 + 1 and high.times.tolist().count(1.0) == 1
    with pytest.raises(ValueError, match="from one time to another"):
        Grid(torch.tensor([0.5, 0.5], dtype=F64))


@pytest.mark.parametrize("sampler", EVERY, ids=repr)
@pytest.mark.parametrize(
    "process", [CosineVP(), RectifiedFlow(), LinearVE(), TableProcess.cosine()], ids=lambda p: type(p).__name__
)
def test_every_sampler_on_every_process_ends_at_a_point_mass(sampler: Sampler, process: Process) -> None:
    """Data that is one point is reached exactly, from alpha = 0 too; the last step to sigma = 0 divides by nothing.

    But for PNDM on the cosine table: it ends with averaged noises, and those were told apart at alpha = 5e-5, where
    rounding is amplified past a thousandth. And but for consistency sampling, which by its boundary condition keeps
    c_skip = 0.25/(10 (1000 t - 1))^2 of its last noisy x.
    """
    point = GaussianMixture(torch.ones(1), torch.tensor([[0.3, -0.8]]), torch.zeros(1, 2, 2))
    x, grid = start(4), Uniform(7)(process)
    got = sample(
        point.denoiser(process), process, sampler, x * process.sigma(grid.times[0]), grid, {}, noise=BatchNoise(0)
    )
    bound = 1e-2 if isinstance(sampler, PNDM) and isinstance(process, TableProcess) else 1e-12
    bound = 1e-5 if isinstance(sampler, Consistency) else bound
    assert float((got - torch.tensor([0.3, -0.8], dtype=torch.float32).double()).abs().max()) < bound


@pytest.mark.parametrize("schedule", [Uniform(9), LogSNR(9), Karras(9), Shifted(9), Trailing(9), Leading(9, 1),
                                      Linspace(9), Linspace(9, rounded=False, chord=True)], ids=repr)  # fmt: skip
def test_grids_fall_to_clean(schedule: Schedule) -> None:
    grid = schedule(TableProcess.scaled_linear())
    assert len(grid) == 9 and float(grid.times[-1]) == 0.0
    assert bool((grid.times[1:] < grid.times[:-1]).all()) and float(grid.times[0]) <= 1.0


def test_grid_values() -> None:
    table = TableProcess.linear()
    assert Trailing(4)(table).clocks.tolist() == [999, 749, 499, 249]
    assert Leading(4, 1)(table).clocks.tolist() == [751, 501, 251, 1]
    assert Linspace(4)(table).clocks.tolist() == [999, 666, 333, 0]
    assert float(Leading(4, clean_end=False)(table).times[-1]) == 1e-3
    rho = torch.exp(-LinearVE().log_snr(Karras(5)(LinearVE()).times[:-1]) / 2)
    want = [(80 ** (1 / 7) + i / 4 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(5)]
    assert rho.tolist() == pytest.approx(want, rel=1e-12)
    gaps = CosineVP().log_snr(LogSNR(6)(CosineVP()).times[:-1]).diff()
    assert float((gaps - gaps[0]).abs().max()) < 1e-9
    assert Shifted(4, 3.0)(RectifiedFlow()).times.tolist() == pytest.approx([1, 0.9, 0.75, 0.5, 0])


def test_names() -> None:
    assert split_label("DPM++ 2M Karras") == ("dpm++2m", "karras") and split_label("Euler a") == ("euler-a", None)
    assert sampler_of("dpmpp_2m") == sampler_of("DPMSolverMultistepScheduler") == DPMSolver()
    assert sampler_of("DDIM", eta=0.3) == DDIM(0.3) and sampler_of("k_euler_ancestral") == DDIM(1.0)
    assert sampler_of("dpmpp_2m_sde_gpu") == sampler_of("DPM++ 2M SDE")  # there the noise is drawn on the device
    assert schedule_of("SGM Uniform", 5) == Linspace(5, rounded=False, open_end=True)
    spelled = [name.lower() for row in SAMPLERS for name in {n.lower() for n in row.names()}]
    assert len(spelled) == len(set(spelled)) and len({row.name for row in SCHEDULES}) == len(SCHEDULES)
    with pytest.raises(UsageError, match="'heun'"):
        sampler_of("huen")
    with pytest.raises(UsageError, match="'karras'"):
        schedule_of("karass", 5)
    with pytest.raises(UsageError, match="eta"):
        sampler_of("ddim", eta=2.0)
    with pytest.raises(UsageError, match="at least 1 step"):
        schedule_of("uniform", 0)
    with pytest.raises(UsageError, match="runs in continuous time"):
        schedule_of("trailing", 5)(CosineVP())
    with pytest.raises(UsageError, match="1000 entries"):
        schedule_of("trailing", 2000)(TableProcess.linear())


@pytest.mark.parametrize("sampler", [Euler(), Heun()])
def test_a_step_is_told_the_belief_at_its_start(sampler: Sampler) -> None:
    """Heun asks for a second belief, at the end of the step; what `on_step` hears is the first."""
    process, x = LinearVP(), start(4)
    told: list[Step] = []
    denoise = standard_mixture().denoiser(process)
    sample(denoise, process, sampler, x, Uniform(3, 1.0, 0.1)(process), {}, noise=BatchNoise(0), on_step=told.append)
    before = [x, *(step.x for step in told)]
    assert [step.index for step in told] == [0, 1, 2]
    assert all(torch.equal(s.belief.x0, denoise(b, tensor(s.t), {}).x0) for s, b in zip(told, before, strict=False))
