"""Flow matching and rectified flow against closed forms: velocities, laws, pairs, straightness, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from huggingvis.core.belief import Belief, Gaussian
from huggingvis.core.noise import ReplayNoise
from huggingvis.core.process import Velocity
from huggingvis.core.protocols import Cond, Denoiser
from huggingvis.core.sample import sample
from huggingvis.core.sampler import Sampler
from huggingvis.data.coupling import OptimalPairs
from huggingvis.data.mixture import GaussianMixture, standard_mixture
from huggingvis.metrics.straightness import Paths, walk
from huggingvis.objectives.denoise import Denoising, Knots, UniformTimes
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.samplers.ddim import DDIM
from huggingvis.samplers.euler import Euler
from huggingvis.samplers.grids import Uniform
from huggingvis.samplers.heun import Heun
from huggingvis.samplers.names import sampler_of

F64 = torch.float64
FLOW = RectifiedFlow()
STRAIGHT = [RectifiedFlow(), RectifiedFlow(sigma_min=0.2)]


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=F64)


def start(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, 2, dtype=F64, generator=torch.Generator().manual_seed(seed))


def paths(denoise: Denoiser, x: Tensor, steps: int, sampler: Sampler | None = None) -> Paths:
    return walk(denoise, FLOW, sampler or Heun(1.0), x, Uniform(steps)(FLOW), {})


def velocity(x: Tensor, t: Tensor, process: RectifiedFlow) -> Tensor:
    """u(x, t) of the mixture without beliefs: each component's affine flow, weighed by its share of the density.

    A component at t is N(alpha m, S), S = alpha^2 C + sigma^2 I; its flow moves the mean and grows S evenly:
    u_k = alpha' m + S'/2 S^-1 (x - alpha m), S' = 2 alpha alpha' C + 2 sigma sigma' I.
    """
    mixture, (a, s), (da, ds) = standard_mixture(), (process.alpha(t), process.sigma(t)), process.derivatives(t)
    eye = torch.eye(2, dtype=F64)
    terms, logs = [], []
    for w, m, c in zip(mixture.weights, mixture.means, mixture.covs, strict=True):
        spread, growth = a**2 * c + s**2 * eye, a * da * c + s * ds * eye
        off = x - a * m
        terms.append(da * m + off @ (growth @ torch.linalg.inv(spread)).T)
        logs.append(w.log() + torch.distributions.MultivariateNormal(a * m, spread).log_prob(x))
    share = torch.softmax(torch.stack(logs, 1), 1)  # [B, K]
    return torch.einsum("bk,kbd->bd", share, torch.stack(terms))


@pytest.mark.parametrize("process", STRAIGHT, ids=repr)
def test_the_velocity_of_the_mixture_carries_its_law(process: RectifiedFlow) -> None:
    """It is the sum of the components' own flows, and with the density it keeps mass: dp/dt + div(p u) = 0."""
    mixture, x = standard_mixture(), 1.3 * start(40)
    for at in (0.02, 0.3, 0.7, 1.0):
        t = number(at)
        ours = process.velocity(x, mixture.x0(x, process, t), t)
        assert float((ours - velocity(x, t, process)).abs().max()) < 1e-9

    t, x = number(0.4).requires_grad_(), x.requires_grad_()
    log_p = mixture.log_prob(x, process, t.expand(len(x)))
    by_x = torch.autograd.grad(log_p.sum(), x, retain_graph=True)[0]
    by_t = torch.stack([torch.autograd.grad(one, t, retain_graph=True)[0] for one in log_p])
    u = process.velocity(x, mixture.x0(x, process, t), t)
    divergence = sum(torch.autograd.grad(u[:, d].sum(), x, retain_graph=True)[0][:, d] for d in range(2))
    assert float((by_t + (by_x * u).sum(1) + divergence).detach().abs().max()) < 1e-9


class Guess(nn.Module):
    """A network that is wrong in a way of its own."""

    def __init__(self, gain: float, shift: float):
        super().__init__()
        self.gain, self.shift = gain, shift

    def forward(self, x: Tensor, clock: Tensor, cond: Cond) -> Tensor:
        return self.gain * torch.tanh(x) + self.shift * clock[:, None]


def test_the_conditional_loss_differs_by_a_constant() -> None:
    """Lipman et al. 2022, Theorem 2: any two nets differ by as much in either loss, so both have one gradient."""
    n, process, mixture = 100_000, RectifiedFlow(sigma_min=0.1), standard_mixture()
    x0 = mixture.sample(n, torch.Generator().manual_seed(1))
    conditional, marginal = [], []
    for net in (Guess(1.0, 0.5), Guess(-0.4, 1.2)):
        objective = Denoising(net, process, Velocity(), UniformTimes(1e-3))
        asked = objective.ask({"x0": x0}, torch.Generator().manual_seed(2))
        conditional.append(objective.squares(asked))
        u = process.velocity(asked.x, mixture.x0(asked.x, process, asked.t), asked.t)
        marginal.append((asked.out - u).square().mean(1))
    gap = (conditional[0] - conditional[1]) - (marginal[0] - marginal[1])
    assert abs(float(gap.mean())) < 4 * float(gap.std()) / n**0.5
    assert abs(float((marginal[0] - marginal[1]).mean())) > 20 * float(gap.std()) / n**0.5
    assert float(conditional[0].mean() - marginal[0].mean()) > 0.3  # the constant: what no net can know


def assert_law(x: Tensor, process: RectifiedFlow) -> None:
    """Mean, covariance and component weights of the data, with what noise is left in them, within 4 standard errors."""
    mixture, n = standard_mixture(), len(x)
    cov = mixture.cov + process.sigma_min**2 * torch.eye(2, dtype=F64)
    sd = cov.diagonal().sqrt()
    assert bool(((x.mean(0) - mixture.mean).abs() < 4 * sd / n**0.5).all())
    assert bool(((torch.cov(x.T) - cov).abs() < 4 * sd[:, None] * sd * (3 / n) ** 0.5).all())
    nearest = mixture.class_posterior(x, process, number(0.0)).argmax(1)
    w = mixture.weights
    assert bool(((torch.bincount(nearest, minlength=3) / n - w).abs() < 4 * (w * (1 - w) / n).sqrt()).all())


@pytest.mark.parametrize(("sampler", "steps"), [(Heun(1.0), 40), (DDIM(), 200), (sampler_of("dpm++2m"), 60)], ids=repr)
@pytest.mark.parametrize("process", STRAIGHT, ids=repr)
def test_the_flow_ends_at_the_mixture(process: RectifiedFlow, sampler: Sampler, steps: int) -> None:
    grid = Uniform(steps)(process)
    denoise = standard_mixture().denoiser(process)
    assert_law(sample(denoise, process, sampler, start(2500, 3), grid, {}, noise=ReplayNoise([])), process)


def test_what_noise_is_left_is_sigma_min() -> None:
    """Data that is one point: every deterministic sampler ends at it, and sigma_min of the first noise."""
    process, x = RectifiedFlow(sigma_min=0.05), start(6)
    point = GaussianMixture(torch.ones(1), torch.tensor([[0.3, -0.8]], dtype=F64), torch.zeros(1, 2, 2))
    want = point.means + 0.05 * x
    for name in ("euler", "heun", "heun-flow", "dpm2", "lms", "deis", "unipc", "dpm++2m", "dpm++3m", "dpm-solver-3"):
        grid = Uniform(7)(process)
        got = sample(point.denoiser(process), process, sampler_of(name), x, grid, {}, noise=ReplayNoise([]))
        assert float((got - want).abs().max()) < 1e-9, name


# ---- pairs ----------------------------------------------------------------------------------------------------------


def cost(x0: Tensor, eps: Tensor) -> Tensor:
    return (x0 - eps).square().sum(1)


def test_a_flows_pairs_keep_both_laws_and_cost_less() -> None:
    """Theorems 3.3 and 3.5: with the exact velocity, E|z_1 - z_0|^2 falls from 4.51 to 0.78, and so do E|z_1 - z_0| and
    the fourth power: every convex cost of the way.
    """
    n, mixture, eps = 4000, standard_mixture(), start(4000, 5)
    known = paths(mixture.denoiser(FLOW), eps, 60)
    assert_law(known.end, FLOW)
    apart = mixture.sample(n, torch.Generator().manual_seed(6))
    # E|x_0|^2 + E|eps|^2, as they know nothing of each other
    whole = float(mixture.cov.trace() + mixture.mean.square().sum()) + 2
    assert float(cost(apart, eps).mean()) == pytest.approx(whole, abs=4 * float(cost(apart, eps).std()) / n**0.5)
    assert torch.equal(known.transport, cost(known.end, eps))
    for power in (0.5, 1.0, 2.0):
        before, after = cost(apart, eps) ** power, known.transport**power
        gap = float(before.mean() - after.mean())
        assert gap > 10 * float((before.var() + after.var()) / n) ** 0.5
    assert float(known.transport.mean()) == pytest.approx(0.78, abs=0.06)


# ---- straightness ---------------------------------------------------------------------------------------------------


class Coupled:
    """The exact belief where noise z and datum T(z) = m + A z belong together: z solves x_t = (1 - t) T(z) + t z."""

    def __init__(self, mean: Tensor, matrix: Tensor):
        self.mean, self.matrix = mean, matrix

    def __call__(self, x: Tensor, t: Tensor, cond: Cond) -> Belief:
        there = (1 - t) * self.matrix + t * torch.eye(2, dtype=F64)
        z = torch.linalg.solve(there, (x - (1 - t) * self.mean).T).T
        return Gaussian(self.mean + z @ self.matrix.T)


def test_reflow_makes_a_gaussians_paths_straight() -> None:
    """One Gaussian, N(m, C): the first flow takes z to m + C^(1/2) z on curves whose S is an integral; the second has
    S = 0, and one Euler step of it is exact.
    """
    cov = torch.tensor([[0.20, 0.10], [0.10, 0.30]], dtype=F64)
    mean = torch.tensor([0.7, -1.1], dtype=F64)
    data = GaussianMixture(torch.ones(1), mean[None], cov[None])
    c, axes = torch.linalg.eigh(cov)
    root = axes @ c.sqrt().diag() @ axes.T
    z = start(50)
    end = mean + z @ root.T

    first = paths(data.denoiser(FLOW), z, 800)
    assert float((first.end - end).abs().max()) < 1e-4
    # along an axis x_t = (1 - t) m + s z, s^2 = (1 - t)^2 c + t^2, so dx/dt = -m + s' z; on the straight way s' is
    # 1 - c^(1/2) instead
    t = (torch.arange(4000, dtype=F64) + 0.5) / 4000
    s = ((1 - t[:, None]) ** 2 * c + t[:, None] ** 2).sqrt()  # [T, 2]
    speed = (t[:, None] - (1 - t[:, None]) * c) / s
    bent = (1 - c.sqrt() - speed).square().mean(0)  # [2]
    want = ((z @ axes).square() * bent).sum(1)
    assert float(((first.straightness - want) / want.mean()).abs().max()) < 1e-2  # O(1/steps)

    second = Coupled(mean, root)
    for steps in (1, 7):
        walked = paths(second, z, steps, Euler())
        assert float((walked.end - end).abs().max()) < 1e-12
        assert float(walked.straightness.max()) < 1e-24
        assert torch.allclose(walked.transport, cost(end, z), rtol=1e-12)
    assert float(paths(data.denoiser(FLOW), z, 1, Euler()).end.sub(end).abs().max()) > 0.5


class Net(nn.Module):
    """A small network of velocities."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))

    def forward(self, x: Tensor, clock: Tensor, cond: Cond) -> Tensor:
        t = clock[:, None].to(x)
        return self.layers(torch.cat([x, t, t**2, torch.sin(4 * t), torch.cos(4 * t)], 1))


def trained(x0: Tensor, eps: Tensor | None, times: UniformTimes | Knots, steps: int = 400) -> Denoiser:
    """The denoiser of a network that learns these pairs, or x0 with fresh noise."""
    torch.manual_seed(0)
    net, rng = Net(), torch.Generator().manual_seed(7)
    objective = Denoising(net, FLOW, Velocity(), times)
    optim = torch.optim.Adam(net.parameters(), 4e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optim, steps)
    for _ in range(steps):
        at = torch.randint(len(x0), (256,), generator=rng)
        batch = {"x0": x0[at].float(), **({} if eps is None else {"eps": eps[at].float()})}
        optim.zero_grad()
        objective.loss(batch, 0, rng)["mse"].backward()
        optim.step()
        schedule.step()

    @torch.no_grad()
    def denoise(x: Tensor, t: Tensor, cond: Cond) -> Belief:
        out = net(x.float(), t.float().expand(len(x)), {}).to(x)
        return Gaussian(Velocity().x0(FLOW, out, x, t))

    return denoise


def test_a_trained_reflow_is_straighter() -> None:
    """On the mixture: S of the exact first flow is 1.04, of a net that learnt its pairs 0.02; one Euler step of that
    ends 0.14 (mean square) from where the pairs do, not 2.4, and 0.08 where only that step was learnt.
    """
    mixture = standard_mixture()
    exact, eps, test = mixture.denoiser(FLOW), start(4000, 8), start(1000, 9)
    pairs = paths(exact, eps, 40).end
    first, reflowed = paths(exact, test, 100), trained(pairs, eps, UniformTimes(1e-3))
    one_step = trained(pairs, eps, Knots(1))
    second = paths(reflowed, test, 100)
    assert float(first.straightness.mean()) == pytest.approx(1.04, abs=0.08)
    assert float(second.straightness.mean()) < 0.06
    assert float(second.transport.mean()) < float(first.transport.mean())
    off = [float(cost(paths(d, test, 1, Euler()).end, first.end).mean()) for d in (exact, reflowed, one_step)]
    assert off[0] > 2 and off[1] < 0.25 and off[2] < 0.8 * off[1]


def test_optimal_pairs_make_a_straighter_first_flow() -> None:
    mixture = standard_mixture()
    x0 = mixture.sample(4096, torch.Generator().manual_seed(10))

    class All:
        def batch(self, index: int, size: int) -> dict[str, Tensor]:
            return {"x0": x0[index * size : (index + 1) * size]}

    dealt = torch.cat([OptimalPairs(All()).batch(i, 256)["eps"] for i in range(16)])
    test = start(1000, 11)
    plain, paired = (paths(trained(x0, eps, UniformTimes(1e-3)), test, 50) for eps in (None, dealt))
    assert float(paired.straightness.mean()) < 0.1 * float(plain.straightness.mean())  # 0.02 and 0.80


def test_straightness_is_told_of_odes_only() -> None:
    with pytest.raises(ValueError, match="draws"):
        paths(standard_mixture().denoiser(FLOW), start(3), 4, DDIM(1.0))
    assert math.isfinite(float(paths(standard_mixture().denoiser(FLOW), start(3), 1, Euler()).straightness.sum()))
