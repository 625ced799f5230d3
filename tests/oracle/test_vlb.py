"""The ledger of the variational bound against closed forms: a Gaussian datum term by term, the mixture as a whole."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from huggingvis.core.belief import Belief
from huggingvis.core.process import Process
from huggingvis.core.protocols import Bound
from huggingvis.data.mixture import GaussianMixture, standard_mixture
from huggingvis.objectives.continuous_bound import ContinuousBound
from huggingvis.objectives.discrete_bound import DiscreteBound
from huggingvis.objectives.ledger import in_bits, over_steps
from huggingvis.objectives.observed import Levels, density
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.processes.sub_vp import SubVP
from huggingvis.processes.table import TableProcess
from huggingvis.processes.ve import GeometricVE
from huggingvis.processes.vp import CosineVP, LinearVP

F64 = torch.float64
STD, DIMS, MANY = 0.6, 2, 4000
GAUSSIAN = GaussianMixture(torch.ones(1), torch.zeros(1, DIMS), STD**2 * torch.eye(DIMS)[None])


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bound(mixture: GaussianMixture, process: Process) -> Bound:
    denoise = mixture.denoiser(process)

    def ask(x: Tensor, t: Tensor) -> Belief:
        return denoise(x, t, {})

    return ask


def near(values: Tensor, want: float) -> None:
    error = 4 * float(values.std()) / len(values) ** 0.5
    assert float(values.mean()) == pytest.approx(want, abs=error + 1e-9)


def coefficients(process: Process, t: float) -> tuple[float, float]:
    when = torch.tensor(t, dtype=F64)
    return float(process.alpha(when)), float(process.sigma(when))


def left_over(process: Process, t: float) -> float:
    """E (x_0 - E[x_0|x_t])^2 of one number of the Gaussian."""
    a, s = coefficients(process, t)
    return STD**2 * s**2 / (a**2 * STD**2 + s**2)


@pytest.mark.parametrize("process", [LinearVP(), SubVP(), GeometricVE(0.05, 20.0)], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("v", [0.0, 0.3, 1.0])
def test_each_term_of_the_chain_on_a_gaussian(process: Process, v: float) -> None:
    times = torch.linspace(0, 1, 21, dtype=F64)
    x = GAUSSIAN.sample(MANY, rng(1))
    ask, ledger = bound(GAUSSIAN, process), DiscreteBound(process, times, density, v)
    a, s = coefficients(process, 1.0)
    near(ledger(ask, x[:MANY], rng(), 1)["prior"], DIMS * a**2 * STD**2 / (2 * s**2))
    for k in (2, 9, 20):
        (a_t, s_t), (a_s, s_s) = (coefficients(process, float(times[i])) for i in (k, k - 1))
        b = s_t**2 - (a_t / a_s * s_s) ** 2
        true = b * s_s**2 / s_t**2
        held = b**v * true ** (1 - v)
        off = (a_s * b / s_t**2) ** 2 * left_over(process, float(times[k]))
        want = DIMS * 0.5 * (math.log(held / true) + true / held - 1 + off / held)
        near(ledger.step(ask, x, torch.full((MANY,), k), rng(k)), want)
    (a_1, s_1), (a_2, s_2) = (coefficients(process, float(times[i])) for i in (1, 2))
    b = s_2**2 - (a_2 / a_1 * s_1) ** 2
    var = (s_1**2) ** v * (b * s_1**2 / s_2**2) ** (1 - v)
    want = DIMS * 0.5 * (math.log(2 * math.pi * var) + left_over(process, float(times[1])) / var)
    near(ledger.data(ask, x, rng(5)), want)


def test_kullback_leibler_is_that_of_torch() -> None:
    """The step's formula by `torch.distributions`, for one datum, one draw and a belief that is wrong."""
    process, times = LinearVP(), torch.linspace(0, 1, 6, dtype=F64)
    x, wrong = torch.tensor([[0.4, -1.1]], dtype=F64), torch.tensor([[0.1, 0.2]], dtype=F64)
    point = GaussianMixture(torch.ones(1), wrong, torch.zeros(1, 2, 2))
    found = DiscreteBound(process, times, v=0.4).step(bound(point, process), x, torch.tensor([3]), rng())
    (a_t, s_t), (a_s, s_s) = (coefficients(process, float(times[i])) for i in (3, 2))
    b = s_t**2 - (a_t / a_s * s_s) ** 2
    true = b * s_s**2 / s_t**2
    scale = a_s * b / s_t**2  # the part of x_t is the same in both means
    q = torch.distributions.Normal(scale * x, true**0.5)
    p = torch.distributions.Normal(scale * wrong, (b**0.4 * true**0.6) ** 0.5)
    assert float(found) == pytest.approx(float(torch.distributions.kl_divergence(q, p).sum()), rel=1e-10)


@pytest.mark.parametrize(
    "process", [LinearVP(), CosineVP(), SubVP(), GeometricVE(), RectifiedFlow()], ids=lambda p: type(p).__name__
)
def test_continuous_terms_on_a_gaussian(process: Process) -> None:
    """1/2 int e^lambda Var(x_0|x_lambda) d lambda is 1/2 log(1 + S e^lambda) between its ends, S the variance."""
    least, last = 1e-3, 0.98
    ledger = ContinuousBound(process, density, least, last)
    x = GAUSSIAN.sample(MANY, rng(1))
    found = ledger(bound(GAUSSIAN, process), x, rng(2), 8)
    low, high = (float(process.log_snr(torch.tensor(t, dtype=F64))) for t in (last, least))
    near(found["prior"], DIMS * 0.5 * math.exp(low) * STD**2)
    both = [0.5 * math.log1p(STD**2 * math.exp(lam)) for lam in (high, low)]
    near(found["steps"], DIMS * (both[0] - both[1]))
    near(found["data"], DIMS * 0.5 * (math.log(2 * math.pi * math.e) - high))
    # together: the entropy, but for what the prior does not know and what is lost at the least noise
    entropy = DIMS * 0.5 * math.log(2 * math.pi * math.e * STD**2)
    whole = torch.stack(list(found.values())).sum(0)
    slack = DIMS * 0.5 * (math.exp(low) * STD**2 - math.log1p(STD**2 * math.exp(low)))
    slack += DIMS * 0.5 * math.log1p(math.exp(-high) / STD**2)
    near(whole, entropy + slack)


def test_the_bound_of_the_mixture_falls_to_its_entropy() -> None:
    """-log p <= bound for every number of steps, less with more of them, and equal in continuous time.

    With beta-tilde, which is right for data that are points, it does not become tight.
    """
    mixture, process = standard_mixture(), CosineVP()
    x = mixture.sample(MANY, rng(1))
    exact = -mixture.log_prob(x, process, torch.tensor(0.0, dtype=F64))
    ask = bound(mixture, process)

    def gaps(steps: int, v: float) -> Tensor:
        ledger = DiscreteBound(process, torch.linspace(0, 0.995, steps + 1, dtype=F64), density, v)
        return torch.stack(list(ledger(ask, x, rng(2), steps).values())).sum(0) - exact

    few, some, many = (gaps(steps, 1.0) for steps in (5, 20, 80))
    assert float(few.mean()) > 2 * float(some.mean()) > 4 * float(many.mean())
    assert float(many.mean()) > -4 * float(many.std()) / MANY**0.5
    assert float(gaps(80, 0.0).mean()) > 1.0
    found = ContinuousBound(process, density, 1e-4, 0.999)(ask, x, rng(3), 40)
    near(torch.stack(list(found.values())).sum(0) - exact, 0.0)


def test_steps_are_estimated_without_bias() -> None:
    """A few drawn steps have the mean of all of them; the schedule between two ends does not matter to VDM."""
    mixture = standard_mixture()
    process = TableProcess.linear(steps=60, end=0.2)
    x, times = mixture.sample(MANY, rng(1)), torch.arange(61, dtype=F64) / 60
    ledger, ask = DiscreteBound(process, times, density), bound(mixture, process)
    every, some = ledger(ask, x, rng(2), 59)["steps"], ledger(ask, x, rng(3), 3)["steps"]
    error = 4 * math.hypot(float(every.std()), float(some.std())) / MANY**0.5
    assert abs(float(every.mean() - some.mean())) < error
    assert every.shape == some.shape == (MANY,)


@pytest.mark.parametrize("draws", [1, 4, 10])
@pytest.mark.parametrize("share", [None, lambda costs: costs, lambda costs: costs.flip(0)], ids=["even", "true", "off"])
def test_a_guess_of_the_shares_changes_the_error_and_not_the_mean(
    share: Callable[[Tensor], Tensor] | None, draws: int
) -> None:
    """Costs that are known: k^-2 of 200 steps, of which the first three are two thirds."""
    k = torch.arange(2, 202, dtype=F64)
    costs, x = 1e3 * (k - 1) ** -2, torch.zeros(20_000, 1, dtype=F64)
    found = over_steps(
        lambda which: costs[which - 2], range(2, 202), x, rng(), draws, None if share is None else share(costs)
    )
    near(found, float(costs.sum()))
    if share is not None and share(costs)[0] == costs[0]:
        even = over_steps(lambda which: costs[which - 2], range(2, 202), x, rng(), draws)
        assert float(found.std()) < 0.1 * float(even.std())


def test_each_draw_is_of_its_own_part_of_the_steps() -> None:
    """Of costs that rise evenly, n draws that are apart tell the sum sqrt(n) times better than n independent ones."""
    costs, x, draws = torch.arange(200, dtype=F64), torch.zeros(MANY, 1, dtype=F64), 10
    found = over_steps(lambda which: costs[which], range(200), x, rng(), draws)
    alone = 200 * float(costs.std()) / math.sqrt(draws)
    assert float(found.std()) == pytest.approx(alone / draws, rel=0.05)


def test_the_prior_is_that_of_the_last_time() -> None:
    """A chain that stops short of noise pays for what its start still shows."""
    process, x = LinearVP(), GAUSSIAN.sample(MANY, rng(1))
    a, s = coefficients(process, 0.4)
    short = DiscreteBound(process, torch.linspace(0, 0.4, 3, dtype=F64), density)
    near(short(bound(GAUSSIAN, process), x, rng(), 1)["prior"], DIMS * a**2 * STD**2 / (2 * s**2))


@pytest.mark.parametrize("draws", [1, 4])
def test_a_schedule_that_learns_has_the_gradient_of_the_whole_sum(draws: int) -> None:
    """The guess of the shares moves with it, and so does which steps are drawn: neither is a way for the gradient."""
    k = torch.arange(2, 42, dtype=F64)

    def slope(draws: int, n: int) -> Tensor:
        power = torch.full((n, 1), 2.0, dtype=F64, requires_grad=True)
        costs = k**-power  # [n, 40]

        def step(which: Tensor) -> Tensor:
            return costs.gather(1, which[:, None] - 2)[:, 0]

        steps = over_steps(step, range(2, 42), torch.zeros(n, 1), rng(), draws, costs[0] ** 0.5)
        return torch.autograd.grad(steps.sum(), power)[0][:, 0]

    near(slope(draws, 20_000), float(slope(40, 1)))


def test_a_thousand_steps_are_told_by_ten() -> None:
    """Ten of the 999 steps of Improved DDPM's cosine table tell the sum for one datum to a tenth of its size."""
    process, times = TableProcess.cosine(steps=1000), torch.arange(1001, dtype=F64) / 1000
    mixture = GaussianMixture(torch.ones(1), torch.zeros(1, 64), 0.2 * torch.eye(64)[None])
    ledger, ask = DiscreteBound(process, times), bound(mixture, process)
    x = mixture.sample(1, rng(1)).expand(400, -1)
    every, some = ledger(ask, x[:40], rng(2), 999)["steps"], ledger(ask, x, rng(3), 10)["steps"]
    error = 4 * math.hypot(float(every.std()) / 40**0.5, float(some.std()) / 400**0.5)
    assert abs(float(every.mean() - some.mean())) < error
    assert float(some.std()) < 0.1 * float(every.mean())


def test_levels_are_probabilities() -> None:
    """They sum to 1 over the 256 values, near and far from the mean, and keep digits in both tails."""
    values = torch.linspace(-1, 1, 256, dtype=F64)[:, None]
    for mean, std in ((0.0, 0.01), (0.3, 1e-3), (-1.2, 0.1), (0.9, 0.5)):
        nats = Levels()(values, torch.full_like(values, mean), torch.tensor(std))
        assert float(nats.exp().sum()) == pytest.approx(1.0, abs=1e-10)
        assert bool(torch.isfinite(nats).all()) and bool((nats <= 1e-12).all())
    normal = torch.distributions.Normal(torch.tensor(0.1, dtype=F64), torch.tensor(0.02, dtype=F64))
    want = torch.log(normal.cdf(values[140] + 1 / 255) - normal.cdf(values[140] - 1 / 255))
    got = Levels()(values[140:141], torch.full((1, 1), 0.1, dtype=F64), torch.tensor(0.02))
    assert float(got) == pytest.approx(float(want), rel=1e-7)
    far = Levels()(
        torch.tensor([[0.9], [-0.9]], dtype=F64), torch.tensor([[-0.5], [0.5]], dtype=F64), torch.tensor(0.02)
    )
    assert float(far[0]) == pytest.approx(float(far[1]), rel=1e-12) and float(far[0]) < -2000
    single = Levels()(values.float(), torch.full((256, 1), 0.3), torch.tensor(0.05))
    assert float(single.double().exp().sum()) == pytest.approx(1.0, abs=1e-5)


def test_bits_of_a_ledger() -> None:
    ledger = {name: torch.tensor([math.log(2) * k]) for name, k in (("prior", 1.0), ("steps", 2.0), ("data", 5.0))}
    assert {name: float(bits) for name, bits in in_bits(ledger, 4).items()} == pytest.approx(
        {"bits_per_dim": 2.0, "prior": 0.25, "steps": 0.5, "data": 1.25}
    )
