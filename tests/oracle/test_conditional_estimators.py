"""CDE, CDiffE and CMDE on a joint Gaussian, where every conditional score is known."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from exact_components import F64, Exact, number, seeded
from torch import Tensor, nn

from huggingvis.core.belief import Belief, Gaussian
from huggingvis.core.errors import UsageError
from huggingvis.core.noise import BatchNoise
from huggingvis.core.process import Eps, Process
from huggingvis.core.protocols import Cond, Denoiser
from huggingvis.core.sample import sample
from huggingvis.data.mixture import GaussianMixture
from huggingvis.data.observations import Grey, Observation, Small, WithoutBox
from huggingvis.guidance.diffused_condition import DiffusedCondition
from huggingvis.objectives.denoise import Denoising, TimeLaw
from huggingvis.processes.non_uniform import Sped, at_speeds
from huggingvis.processes.ve import GeometricVE
from huggingvis.processes.vp import LinearVP
from huggingvis.samplers.ddim import DDIM
from huggingvis.samplers.grids import LogSNR

# x in two dimensions, y in two: strongly tied, so that losing y costs much
LINK = torch.tensor([[1.0, 0.3], [-0.4, 0.8]], dtype=F64)
LEFT = torch.tensor([[0.10, 0.03], [0.03, 0.06]], dtype=F64)
MEAN = torch.tensor([0.5, -0.3, 0.2, 0.1], dtype=F64)
BASES: list[Process] = [LinearVP(), GeometricVE(0.01, 20.0)]


def joint() -> GaussianMixture:
    """y ~ N(., I/2), x = LINK y + what is left."""
    spread = torch.eye(2, dtype=F64) / 2
    cov = torch.cat([torch.cat([LINK @ spread @ LINK.T + LEFT, LINK @ spread], 1),
                     torch.cat([spread @ LINK.T, spread], 1)])  # fmt: skip
    return GaussianMixture(torch.ones(1), MEAN[None], cov[None])


def conditional_mean(y: Tensor) -> Tensor:
    """E[x | y]; its covariance is LEFT."""
    return MEAN[:2] + (y - MEAN[2:]) @ LINK.T


class CleanDenoiser:
    """E[x_0 | x_t, y]."""

    def __init__(self, process: Process):
        self.process = process

    def __call__(self, x: Tensor, t: Tensor, cond: Cond) -> Belief:
        a, s = self.process.coefficients(t, x)
        mean = conditional_mean(cond["given"])
        gain = a * LEFT @ torch.linalg.inv(a**2 * LEFT + s**2 * torch.eye(2, dtype=F64))
        return Gaussian(mean + (x - a * mean) @ gain.T)


def pairs(base: Process, speed: float) -> tuple[Process, Exact]:
    process = at_speeds(base, (1.0, speed), (2, 2), dims=0)
    return Sped(base, speed), Exact(joint(), process)


class At(TimeLaw):
    """One time only."""

    def __init__(self, t: float):
        self.t = t

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        return torch.full((n,), self.t, dtype=F64)


class Keeps(nn.Module):
    """Answers nothing and keeps what it was asked."""

    def forward(self, x: Tensor, clock: Tensor, cond: Cond) -> Tensor:
        self.seen = torch.cat([x, cond["concat"]], 1) if "concat" in cond else x
        return torch.zeros_like(x)


def least_squares(seen: Tensor, target: Tensor) -> Tensor:
    """The best affine prediction of `target`, at `seen`."""
    padded = torch.cat([seen, torch.ones(len(seen), 1, dtype=F64)], 1)
    return padded @ torch.linalg.lstsq(padded, target).solution


@pytest.mark.parametrize("base", BASES, ids=repr)
@pytest.mark.parametrize("t", [0.3, 0.6])
def test_the_loss_with_a_clean_condition_is_minimised_by_the_conditional_score(base: Process, t: float) -> None:
    """CDE is consistent: on Gaussians the minimiser is affine, found here by least squares on what the net is asked."""
    n, net = 40_000, Keeps()
    z = joint().sample(n, seeded(0))
    objective = Denoising(net, base, Eps(), At(t), condition=lambda batch: {"concat": batch["y"]})
    asked = objective.ask({"x0": z[:, :2], "y": z[:, 2:]}, seeded(1))
    best = -least_squares(net.seen, asked.eps) / base.sigma(number(t))
    belief = CleanDenoiser(base)(asked.x, number(t), {"given": z[:, 2:]})
    assert isinstance(belief, Gaussian)
    want = base.score(asked.x, belief.x0, number(t))
    assert float((best - want).square().mean().sqrt() * base.sigma(number(t))) < 3 * (5 / n) ** 0.5


@pytest.mark.parametrize("speed", [1.0, 0.3])
def test_the_loss_of_pairs_is_minimised_by_the_joint_score(speed: float) -> None:
    """CDiffE and CMDE: the x part of it is grad log p(x_t | y_t)."""
    n, net, base = 40_000, Keeps(), LinearVP()
    process = at_speeds(base, (1.0, speed), (2, 2), dims=0)
    asked = Denoising(net, process, Eps(), At(0.3)).ask({"x0": joint().sample(n, seeded(0))}, seeded(1))
    best = -least_squares(net.seen, asked.eps) / process.sigma(number(0.3))
    belief = Exact(joint(), process)(asked.x, number(0.3), {})
    assert isinstance(belief, Gaussian)
    want = process.score(asked.x, belief.x0, number(0.3))
    assert float(((best - want) * process.sigma(number(0.3))).square().mean().sqrt()) < 3 * (5 / n) ** 0.5
    a, s = process.alpha(number(0.3))[0], process.sigma(number(0.3))[0]
    x = asked.x[:6].clone().requires_grad_()
    total = a[:, None] * joint().covs[0] * a + torch.diag(s**2)
    log_joint = torch.distributions.MultivariateNormal(a * MEAN, total).log_prob(x)
    log_y = torch.distributions.MultivariateNormal(a[2:] * MEAN[2:], total[2:, 2:]).log_prob(x[:, 2:])
    (gradient,) = torch.autograd.grad((log_joint - log_y).sum(), x)
    assert torch.allclose(gradient[:, :2], want[:6, :2], atol=1e-9)


def gap(base: Process, speed: float) -> float:
    """Root mean square of what the beliefs of CMDE and CDE differ by, over time."""
    y_process, exact = pairs(base, speed)
    n = 400
    z = joint().sample(n, seeded(0))
    cond = {"given": z[:, 2:], "given.seed": torch.arange(n)}
    squares = []
    for t in (0.2, 0.5, 0.9):
        x = base.add_noise(z[:, :2], torch.randn(n, 2, dtype=F64, generator=seeded(1)), number(t))
        noisy, clean = DiffusedCondition(y_process)(exact)(x, number(t), cond), CleanDenoiser(base)(x, number(t), cond)
        assert isinstance(noisy, Gaussian) and isinstance(clean, Gaussian)
        squares.append((noisy.x0 - clean.x0).square().mean())
    return float(torch.stack(squares).mean().sqrt())


@pytest.mark.parametrize("base", BASES, ids=repr)
def test_a_condition_at_rest_is_a_clean_one(base: Process) -> None:
    """CMDE -> CDE as the condition's speed -> 0: the beliefs differ by a multiple of the noise that y_t has."""
    gaps = [gap(base, speed) for speed in (1.0, 0.3, 0.1, 0.01, 1e-4, 1e-6)]
    assert all(slower < faster for faster, slower in pairwise(gaps))
    assert gaps[-1] < 1e-2 < 0.3 < gaps[0]
    noise = [float(Sped(base, speed).sigma(number(0.5))) for speed in (1e-4, 1e-6)]
    assert gaps[-2] / gaps[-1] == pytest.approx(noise[0] / noise[1], rel=0.1)  # of first order


def drawn(base: Process, speed: float, y: Tensor, fresh: bool = True) -> Tensor:
    n, grid = len(y), LogSNR(40)(base)
    cond = {"given": y, "given.seed": torch.arange(n)}
    denoise: Denoiser = CleanDenoiser(base)
    if speed > 0:
        y_process, exact = pairs(base, speed)
        denoise = DiffusedCondition(y_process, fresh)(exact)
    x = torch.randn(n, 2, dtype=F64, generator=seeded(2)) * base.sigma(grid.times[0])
    return sample(denoise, base, DDIM(1.0), x, grid, cond, noise=BatchNoise(3))


def test_draws_given_a_condition() -> None:
    """CDE draws p(x | y); CDiffE's draws are too wide and pulled to the middle, and CMDE's the less so the slower."""
    n = 800
    y = torch.tensor([[1.2, -0.9]], dtype=F64).expand(n, 2)
    sd = LEFT.diagonal().sqrt()
    found = {speed: drawn(LinearVP(), speed, y) for speed in (0.0, 0.001, 0.1, 1.0)}
    for speed in (0.0, 0.001):
        mean, cov = found[speed].mean(0) - conditional_mean(y[0]), torch.cov(found[speed].T) - LEFT
        assert bool((mean.abs() < 4 * sd / n**0.5 + 0.01).all())
        assert bool((cov.abs() < 4 * sd[:, None] * sd * (3 / n) ** 0.5 + 0.005).all())
    assert float(((found[1.0].mean(0) - conditional_mean(y[0])) / sd).norm()) > 1.0
    assert bool((torch.cov(found[1.0].T).diagonal() > 1.3 * sd**2).all())
    apart = [float((found[speed] - found[0.0]).square().mean().sqrt()) for speed in (1.0, 0.1, 0.001)]  # same noise
    assert apart[0] > 2 * apart[1] > 4 * apart[2]


def test_noise_of_the_condition_belongs_to_item_and_time() -> None:
    """The same whatever the batch; anew at each time, or one path; standard normal over items."""
    y_process, n = Sped(LinearVP(), 0.5), 1000
    told: list[Tensor] = []

    def pair(x: Tensor, t: Tensor, cond: Cond) -> Belief:
        told.append(x[:, 2:])
        assert set(cond) == {"estimate"} and torch.equal(cond["estimate"][:, 2:], y[: len(x)])
        return Gaussian(x, logvar=x + 1, v=x + 2)

    y, x = torch.randn(n, 2, dtype=F64, generator=seeded(0)), torch.zeros(n, 2, dtype=F64)
    cond = {"given": y, "given.seed": torch.arange(n) - 7, "estimate": x}
    for fresh in (True, False):
        told.clear()
        denoise = DiffusedCondition(y_process, fresh)(pair)
        for t in (0.3, 0.3, 0.6):
            belief = denoise(x, number(t), cond)
        assert isinstance(belief, Gaussian) and belief.x0.shape == (n, 2)
        assert belief.logvar is not None and belief.v is not None and belief.v.shape == (n, 2)
        eps = [y_process.eps(y_t, y, number(t)) for y_t, t in zip(told, (0.3, 0.3, 0.6), strict=True)]
        assert torch.equal(told[0], told[1]) and torch.allclose(eps[0], eps[2], atol=1e-6) is not fresh
        flat = torch.cat([eps[0], eps[2]], 1)
        assert bool((flat.mean(0).abs() < 4 / n**0.5).all())
        tied = torch.corrcoef(flat.T) - torch.eye(4)
        assert float(tied[:2, :2].abs().max()) < 4 / math.sqrt(n)
        if fresh:
            assert float(tied.abs().max()) < 4 / math.sqrt(n)
        few = {key: value[:3] for key, value in cond.items()}
        denoise(x[:3], torch.tensor([0.3, 0.6, 0.3], dtype=F64), few)
        assert torch.equal(told[-1][0], told[0][0]) and torch.equal(told[-1][1], told[2][1])
    with pytest.raises(UsageError, match="half of a pair"):
        DiffusedCondition(y_process)(pair)(x, number(0.3), {"given": y})


@pytest.mark.parametrize("observation", [WithoutBox(0.5), Small(4), Grey()], ids=repr)
def test_observations(observation: Observation) -> None:
    x = torch.rand(2, 3, 8, 8, dtype=F64, generator=seeded(0)) * 2 - 1
    y, seen = observation(x), observation.mask(x)
    assert y.shape == x.shape and seen.shape == (1, 1, 8, 8)
    assert torch.equal(torch.where(seen, x, y), y)  # they agree where it says so
    assert torch.allclose(observation(y), y)  # nothing more is lost the second time


def test_what_observations_keep() -> None:
    x = torch.rand(1, 3, 8, 8, dtype=F64, generator=seeded(0))
    box = WithoutBox(0.5)
    assert int((~box.mask(x)).sum()) == 16 and not bool(box(x)[:, :, 2:6, 2:6].any())
    assert torch.allclose(Small(4)(x)[0, :, :4, :4], x[0, :, :4, :4].mean((1, 2), keepdim=True).expand(3, 4, 4))
    assert torch.allclose(Grey()(x)[:, 1], x.mean(1))
    for wrong, said in ((lambda: WithoutBox(1.0), "found 1.0"), (lambda: Small(1), "2 times smaller, found 1"),
                        (lambda: Small(3)(x), "cannot be made 3 times smaller")):  # fmt: skip
        with pytest.raises(UsageError, match=said):
            wrong()
