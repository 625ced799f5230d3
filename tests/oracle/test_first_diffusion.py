"""The Gaussian chain of 2015 with its exact reverse: the bound is the entropy and a gap that is known to all digits."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from huggingvis.core.belief import Belief, Gaussian
from huggingvis.core.errors import UsageError
from huggingvis.core.learned_variance import ToldVariance
from huggingvis.core.noise import ReplayNoise
from huggingvis.core.process import V, Velocity
from huggingvis.data.mixture import GaussianMixture, standard_mixture
from huggingvis.data.swiss_roll import swiss_roll
from huggingvis.objectives.bound_training import BoundTraining
from huggingvis.objectives.discrete_bound import DiscreteBound
from huggingvis.objectives.observed import density
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.processes.learned_betas import LearnedBetas
from huggingvis.processes.table import TableProcess
from huggingvis.recipes.chain_training import bound_to, total
from huggingvis.samplers.ancestral import Ancestral

F64 = torch.float64
MANY = 4000


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def chain(process: TableProcess) -> DiscreteBound:
    return DiscreteBound(process, torch.arange(process.steps + 1, dtype=F64) / process.steps, density)


def fresh(steps: int, first: float = 1e-3) -> TableProcess:
    return TableProcess.from_betas(LearnedBetas(steps, first, end=-3.0).betas().detach())


def bars(process: TableProcess) -> list[float]:
    """alpha_bar at 0 and at the knots."""
    return [1.0, *process.alphas_cumprod.tolist()]


def test_the_bound_of_one_gaussian_is_its_entropy() -> None:
    """Its reverse steps are Gaussian, so nothing is lost but what the prior does not know: KL(q(x_T) || p(x_T))."""
    mean, var = torch.tensor([0.4, -0.2], dtype=F64), torch.tensor([0.5, 1.3], dtype=F64)
    law, process = GaussianMixture(torch.ones(1), mean[None], torch.diag(var)[None]), fresh(7)
    x = law.sample(MANY, rng())
    found = total(chain(process)(bound_to(law.denoiser(process, sure=True)), x, rng(1), 7))
    bar = bars(process)[-1]
    last = Normal(math.sqrt(bar) * mean, (bar * var + 1 - bar).sqrt())
    want = float(Normal(mean, var.sqrt()).entropy().sum())
    want += float(kl_divergence(last, Normal(torch.zeros(2, dtype=F64), math.sqrt(1 - bar))).sum())
    assert float(found.mean()) == pytest.approx(want, abs=4 * float(found.std()) / MANY**0.5)
    assert float(found.std()) / MANY**0.5 < 0.04


def on_a_line(weights: Tensor, means: Tensor, var: Tensor) -> GaussianMixture:
    return GaussianMixture(weights, means[:, None], var[:, None, None])


def cost_of_the_best_chain(weights: Tensor, means: Tensor, var: Tensor, process: TableProcess) -> float:
    """The bound of a mixture on a line with exact mean and variance in every step, by quadrature over each x_k alone.

    E[-log p(x_T)] + sum_k 1/2 E log(2 pi e v_k(x_k)) - sum_k 1/2 log(2 pi e beta_k), where v_k is the variance of
    x_(k-1) given x_k, a mixture itself, whose components follow from linear regression.
    """
    grid = torch.linspace(-9, 9, 20_001, dtype=F64)
    step = float(grid[1] - grid[0])

    def joint(bar: float) -> tuple[Tensor, Tensor, Tensor]:
        """w_j N(x; j) on the grid [N, J], and means and variances of the components."""
        m, s = math.sqrt(bar) * means, bar * var + 1 - bar
        return weights * torch.exp(Normal(m, s.sqrt()).log_prob(grid[:, None])), m, s

    total_cost, bar = 0.0, bars(process)
    for before, after in pairwise(bar):
        beta, r = 1 - after / before, math.sqrt(after / before)
        (_, m, s), (p, m_k, s_k) = joint(before), joint(after)
        each = m + r * s / s_k * (grid[:, None] - m_k)  # E[x_(k-1) | x_k, j]
        left = s - (r * s) ** 2 / s_k
        share = p / p.sum(1, keepdim=True)
        mean = (share * each).sum(1)
        v = (share * (left + each**2)).sum(1) - mean**2
        total_cost += 0.5 * float((p.sum(1) * (v / beta).log()).sum()) * step
    p = joint(bar[-1])[0].sum(1)
    return total_cost - float((p * Normal(0.0, math.sqrt(1 - bar[-1])).log_prob(grid)).sum()) * step


@pytest.mark.parametrize("steps", [3, 8])
def test_the_bound_of_a_mixture_is_its_entropy_gap(steps: int) -> None:
    weights = torch.tensor([0.6, 0.4], dtype=F64)
    means, var = torch.tensor([-1.2, 0.9], dtype=F64), torch.tensor([0.05, 0.2], dtype=F64)
    law, process = on_a_line(weights, means, var), fresh(steps)
    want = cost_of_the_best_chain(weights, means, var, process)
    x = law.sample(3 * MANY, rng())
    found = total(chain(process)(bound_to(law.denoiser(process, sure=True)), x, rng(1), steps))
    true = -law.log_prob(x, process, torch.tensor(0.0, dtype=F64))
    grid = torch.linspace(-6, 6, 20_001, dtype=F64)[:, None]
    log_p = law.log_prob(grid, process, torch.tensor(0.0, dtype=F64))
    gap = want + float((log_p.exp() * log_p).sum()) * float(grid[1] - grid[0])
    assert gap > 0
    off = found - true
    assert float(off.mean()) == pytest.approx(gap, abs=4 * float(off.std()) / len(x) ** 0.5)
    unsure = total(chain(process)(bound_to(law.denoiser(process)), x, rng(1), steps)) - true
    assert float(unsure.mean()) > float(off.mean())  # beta in place of the best variance


def test_more_steps_close_the_gap() -> None:
    law = standard_mixture()
    x = law.sample(MANY, rng())
    true = -law.log_prob(x, RectifiedFlow(), torch.tensor(0.0, dtype=F64))
    gaps = []
    for steps in (5, 20, 80):
        process = TableProcess.from_betas(LearnedBetas(steps, 1e-3, end=-7.0).betas().detach())
        found = total(chain(process)(bound_to(law.denoiser(process, sure=True)), x, rng(2), steps)) - true
        gaps.append((float(found.mean()), 4 * float(found.std()) / MANY**0.5))
    assert gaps[0][0] > 1.8 * gaps[1][0] > 3.2 * gaps[2][0]
    assert all(gap > -error for gap, error in gaps)


def test_the_perfect_denoiser_knows_its_variance() -> None:
    """Against moments on a fine grid of x_0, for a mixture with turned axes."""
    law, process, t = standard_mixture(), RectifiedFlow(), torch.tensor(0.4, dtype=F64)
    x = torch.tensor([[0.2, -0.3], [0.9, 0.1]], dtype=F64)
    axis = torch.linspace(-3.5, 3.5, 701, dtype=F64)
    x0 = torch.cartesian_prod(axis, axis)
    prior = law.log_prob(x0, process, torch.tensor(0.0, dtype=F64))
    like = Normal(process.alpha(t) * x0[:, None], process.sigma(t)).log_prob(x).sum(2)  # [N, B]
    r = torch.softmax(prior[:, None] + like, 0)
    mean = torch.einsum("nb,nd->bd", r, x0)
    var = torch.einsum("nb,nd->bd", r, x0**2) - mean**2
    belief = law.denoiser(process, sure=True)(x, t, {})
    assert isinstance(belief, Gaussian) and belief.logvar is not None
    assert torch.allclose(belief.x0, mean, atol=1e-9) and torch.allclose(belief.logvar.exp(), var, atol=1e-9)


def test_a_told_variance_is_that_of_the_sampler() -> None:
    """One datum, one wrong belief: the ledger's divergence by `torch.distributions`, with the very step of ancestral
    sampling as the model's."""
    process, k = fresh(6), 4
    x0 = torch.tensor([[0.5, -0.8]], dtype=F64)
    belief = Gaussian(torch.tensor([[0.1, -0.4]], dtype=F64), torch.tensor([[-1.0, -2.5]], dtype=F64))

    def ask(x: Tensor, t: Tensor) -> Belief:
        return belief

    ledger = chain(process)
    found = ledger.step(ask, x0, torch.tensor([k]), rng(3))
    eps = torch.randn(x0.shape, generator=rng(3), dtype=F64)
    t, s = ledger.times[k], ledger.times[k - 1]
    noisy, one = process.add_noise(x0, eps, t), torch.ones_like(x0)
    means = [Ancestral().step(ask, process, noisy, t, s, None, ReplayNoise([draw]))[0] for draw in (0 * one, one)]
    p = Normal(means[0], means[1] - means[0])
    a_t, a_s = process.alpha(t), process.alpha(s)
    fresh_var = process.sigma(t) ** 2 - (a_t / a_s * process.sigma(s)) ** 2
    keep = process.sigma(s) ** 2 / process.sigma(t) ** 2
    q = Normal(a_s * fresh_var / process.sigma(t) ** 2 * x0 + a_t / a_s * keep * noisy, (fresh_var * keep).sqrt() * one)
    assert float(found) == pytest.approx(float(kl_divergence(q, p).sum()), rel=1e-10)


def test_silence_is_right_for_white_noise() -> None:
    """A network that gives 0 believes what is true of N(0, I), so that its chain has no gap but in the prior."""
    process, prediction = fresh(5), ToldVariance(V())
    x = torch.randn(MANY, 2, dtype=F64, generator=rng())

    def ask(x: Tensor, t: Tensor) -> Belief:
        return prediction.belief(process, torch.zeros(len(x), 4, dtype=F64), x, t)

    found = total(chain(process)(ask, x, rng(1), 5))
    entropy = float(Normal(0.0, 1.0).entropy()) * 2
    bar = bars(process)[-1]
    want = entropy + 2 * float(kl_divergence(Normal(0.0, 1.0), Normal(0.0, math.sqrt(1 - bar))))
    assert float(found.mean()) == pytest.approx(want, abs=4 * float(found.std()) / MANY**0.5)
    assert prediction.outputs(2) == 4 and ToldVariance(Velocity()).outputs(3) == 6


def test_the_schedule_learns_by_the_true_gradient() -> None:
    """The gradient of the bound in the betas, noise held, is that of finite differences; the first beta has none."""
    schedule, law = LearnedBetas(5, 1e-2, end=-2.0).double(), standard_mixture()
    x = law.sample(64, rng())

    def loss() -> Tensor:
        process = schedule.process()
        return total(chain(process)(bound_to(law.denoiser(process, sure=True)), x, rng(1), 5)).mean()

    loss().backward()
    assert schedule.logits.grad is not None
    got = schedule.logits.grad.clone()
    assert float(schedule.betas().detach()[0]) == 1e-2 and len(schedule.betas()) == 5 and float(got.abs().min()) > 1e-6
    for i in range(4):
        values = []
        for off in (1e-5, -1e-5):
            with torch.no_grad():
                schedule.logits[i] += off
                values.append(float(loss()))
                schedule.logits[i] -= off
        assert float(got[i]) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4, abs=1e-8)


def test_training_the_schedule_lowers_the_bound() -> None:
    """Four steps of a mixture with their perfect beliefs: of what there is to lose, learned betas lose less."""
    schedule, law = LearnedBetas(4, 1e-2, end=-1.0), standard_mixture()

    def now() -> tuple[DiscreteBound, object]:
        process = schedule.process()
        return chain(process), bound_to(law.denoiser(process, sure=True))

    objective = BoundTraining({"schedule": schedule}, now, draws=4, held_out=4)  # type: ignore[arg-type]
    optimiser = torch.optim.Adam(schedule.parameters(), lr=0.2)
    held_out = {"x0": law.sample(1000, rng(9))}
    before = float(objective.validate(held_out, rng(8))["bits"])
    for i in range(20):
        optimiser.zero_grad()
        objective.loss({"x0": law.sample(256, rng(i))}, i, rng(100 + i))["bits"].backward()
        optimiser.step()
    assert float(objective.validate(held_out, rng(8))["bits"]) < before - 0.1


def test_the_swiss_roll_is_what_it_says() -> None:
    law = swiss_roll(0.1, 200)
    x = law.sample(5000, rng())
    assert float(law.mean.norm()) < 1e-12 and float(law.cov.trace()) == pytest.approx(2.0)
    assert float(x.square().mean()) == pytest.approx(1.0, abs=0.05)
    axis = torch.linspace(-3, 3, 121, dtype=F64)
    log_p = law.log_prob(torch.cartesian_prod(axis, axis), RectifiedFlow(), torch.tensor(0.0, dtype=F64))
    assert float(log_p.exp().sum()) * float(axis[1] - axis[0]) ** 2 == pytest.approx(1.0, abs=1e-6)
    with pytest.raises(UsageError, match="small first beta"):
        LearnedBetas(1)
