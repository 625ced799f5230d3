"""Improved DDPM: the variance a network tells, the bound that teaches it, and times drawn by their loss."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scheduler_twins import BETAS, Net, assert_same, begin, double, draws
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from huggingvis.core.diffusion import NetDenoiser
from huggingvis.core.errors import UsageError
from huggingvis.core.learned_variance import LearnedVariance
from huggingvis.core.noise import ReplayNoise
from huggingvis.core.process import Eps, V
from huggingvis.core.sample import sample
from huggingvis.objectives.denoise import Asked, Denoising, Knots
from huggingvis.objectives.hybrid import Hybrid
from huggingvis.objectives.loss_aware import LossAware
from huggingvis.objectives.observed import Levels
from huggingvis.objectives.weights import WEIGHTINGS
from huggingvis.processes.table import TableProcess
from huggingvis.samplers.ancestral import Ancestral
from huggingvis.samplers.grids import Leading, Linspace
from huggingvis.train.snapshot import collect

F64 = torch.float64
T = 50
PROCESS = TableProcess.cosine(steps=T)


class Twice(nn.Module):
    """The twins' network, and the variance's numbers beside its answer."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    @property
    def asked(self) -> Any:
        return self.net.asked

    def forward(self, x: Tensor, clock: Tensor, cond: Any = None) -> Tensor:
        return torch.cat([self.net(x, clock), torch.cos(2 * x)], dim=1)


@pytest.mark.parametrize("spacing", ["leading", "linspace"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("betas", BETAS)
def test_ancestral_beside_ddpm_scheduler_learned_range(betas: str, prediction: str, spacing: str) -> None:
    """Strided: the net's v between the two variances of the long step."""
    import diffusers

    scheduler = diffusers.DDPMScheduler(**BETAS[betas], timestep_spacing=spacing, prediction_type=prediction,
                                        variance_type="learned_range", clip_sample=False)  # fmt: skip
    process = double(scheduler)
    scheduler.set_timesteps(20)
    theirs, x, rng = Twice(), begin(), torch.Generator().manual_seed(3)
    ours = Twice()
    denoise = NetDenoiser(ours, process, LearnedVariance(Eps() if prediction == "epsilon" else V()))
    grid = (Leading(20) if spacing == "leading" else Linspace(20))(process)
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(theirs(x, t), t, x, generator=rng).prev_sample
        y = sample(denoise, process, Ancestral(), begin(), grid, {}, noise=ReplayNoise(draws(20)))
    assert_same((ours.net, y), (theirs.net, x))


def hybrid(net: nn.Module, **numbers: Any) -> Hybrid:
    return Hybrid(Denoising(net, PROCESS, LearnedVariance(Eps()), Knots(T)), T, **numbers)


def test_a_table_of_one_knot_has_no_variance_to_teach() -> None:
    with pytest.raises(UsageError, match="table of two knots or more, found 1"):
        Hybrid(Denoising(Net(), PROCESS, LearnedVariance(Eps()), Knots(1)), 1)


def test_noise_levels_count_in_the_plain_loss_alone() -> None:
    """By the rule of `objectives.weights`: min(SNR, 5)/SNR times the error of the noise."""
    out, batch = torch.randn(16, 4, 3, 3, generator=torch.Generator().manual_seed(0)), {"x0": torch.zeros(16, 2, 3, 3)}
    plain, weighted = (hybrid(Answers(out)) for _ in range(2))
    weighted.simple.weighting = WEIGHTINGS["min-snr"]
    one, other = (h.loss(batch, 0, torch.Generator().manual_seed(1)) for h in (plain, weighted))
    asked = plain.simple.ask(batch, torch.Generator().manual_seed(1))
    snr = (PROCESS.alpha(asked.t) / PROCESS.sigma(asked.t)) ** 2
    wanted = (plain.simple.squares(asked).double() * snr.clamp(max=5.0) / snr).mean()
    assert float(other["mse"].detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
    assert float(one["mse"].detach()) > 1.01 * float(other["mse"].detach())
    assert torch.equal(one["bound"].detach(), other["bound"].detach())


class Answers(nn.Module):
    """Always answers with its parameter."""

    def __init__(self, out: Tensor):
        super().__init__()
        self.out = nn.Parameter(out)

    def forward(self, x: Tensor, clock: Tensor, cond: object) -> Tensor:
        return self.out


def case(b: int = 40) -> tuple[Asked, Tensor]:
    g = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(b, 2, 3, 3, dtype=F64, generator=g) for _ in range(2))
    t = torch.randint(2, T + 1, (b,), generator=g).double() / T
    out = torch.randn(b, 4, 3, 3, dtype=F64, generator=g)
    return Asked(x0, eps, t, PROCESS.add_noise(x0, eps, t), out), out


def test_the_bound_is_the_divergence_of_the_two_steps() -> None:
    """By PyTorch's KL of two normals, from means and variances written out with betas (their Eq. 10-15)."""
    asked, out = case()
    k = (asked.t * T).round().long() - 1
    bar = PROCESS.alphas_cumprod
    before = torch.cat([torch.ones(1, dtype=F64), bar])[k]
    alpha, bar = (bar[k] / before)[:, None, None, None], bar[k][:, None, None, None]
    before = before[:, None, None, None]
    beta = 1 - alpha
    small = beta * (1 - before) / (1 - bar)

    def mean(x0: Tensor) -> Tensor:
        return before.sqrt() * beta / (1 - bar) * x0 + alpha.sqrt() * (1 - before) / (1 - bar) * asked.x

    eps, v = out[:, :2], (out[:, 2:] + 1) / 2
    told = mean((asked.x - (1 - bar).sqrt() * eps) / bar.sqrt())
    var = torch.exp(v * beta.log() + (1 - v) * small.log())
    q, p = Normal(mean(asked.x0), small.sqrt()), Normal(told, var.sqrt())
    want = kl_divergence(q, p).flatten(1).mean(1) / math.log(2)
    got = hybrid(Answers(out)).bits(asked)
    assert float(((got - want) / want).abs().max()) < 1e-8


def test_the_first_knot_is_the_likelihood_of_pixels() -> None:
    levels = torch.arange(256, dtype=F64) / 127.5 - 1
    asked, out = case(4)
    first = torch.full((4,), 1 / T, dtype=F64)
    pixels = levels[torch.randint(0, 256, (4, 2, 3, 3), generator=torch.Generator().manual_seed(1))]
    asked = asked._replace(x0=pixels, t=first, x=PROCESS.add_noise(pixels, asked.eps, first))
    beta, small = PROCESS._sigma[1] ** 2, float(hybrid(Answers(out)).ledger._chain(torch.tensor([2]))[2])
    v = (out[:, 2:] + 1) / 2
    log_var = v * beta.log() + (1 - v) * math.log(small)
    told = Eps().x0(PROCESS, out[:, :2], asked.x, first)
    want = -Levels()(pixels, told, torch.exp(log_var / 2)) / (pixels[0].numel() * math.log(2))
    assert float((hybrid(Answers(out)).bits(asked) - want).abs().max()) < 1e-8


def test_the_bound_teaches_the_variance_and_not_the_mean() -> None:
    asked, out = case()
    for mean_too in (False, True):
        net = Answers(out)
        hybrid(net, mean_too=mean_too).bits(asked._replace(out=net.out)).sum().backward()
        mean, variance = net.out.grad.chunk(2, dim=1)
        assert bool((mean != 0).any()) == mean_too and float(variance.abs().max()) > 0.01


def test_it_teaches_the_true_variance_of_gaussian_data() -> None:
    """Data N(0, c^2): with the exact mean, the slope of the expected bound vanishes at the variance of q(x_s | x_t)."""
    c = 0.6
    t = torch.arange(2, T + 1, dtype=F64) / T
    a, s = PROCESS.alpha(t), PROCESS.sigma(t)
    spread = c**2 * s**2 / (a**2 * c**2 + s**2)  # Var[x_0 | x_t]
    objective = hybrid(Answers(torch.zeros(1)))
    pull, beta, small = objective.ledger._chain(torch.arange(2, T + 1))
    v = ((small + pull**2 * spread).log() - small.log()) / (beta.log() - small.log())
    assert bool((v > 0).all()) and bool((v < 1).all())
    x = torch.randn(len(t), 1, 1, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    a, s, spread = (q[:, None, None, None] for q in (a, s, spread))
    believed = a * c**2 / (a**2 * c**2 + s**2) * x
    x0 = believed + spread.sqrt() * torch.tensor([1.0, -1.0], dtype=F64)  # two points with the posterior's variance
    eps = (x - a * believed) / s
    told = (2 * v - 1)[:, None, None, None].expand_as(x).clone().requires_grad_()
    asked = Asked(x0, eps, t, x, torch.cat([eps, told], dim=1))
    bits = objective.bits(asked)
    bits.sum().backward()
    assert float(told.grad.abs().max()) < 1e-9
    off = objective.bits(asked._replace(out=torch.cat([eps, told.detach() + 0.3], dim=1)))
    assert bool((off > bits).all())


def known(law: LossAware) -> Tensor:
    """Lets the law see losses sqrt(k + 1) at every knot; their expectation under uniform times is returned."""
    t = torch.arange(1, law.T + 1, dtype=F64) / law.T
    for _ in range(law.keep):
        law.note(t, (t * law.T).sqrt())
        law.settle(lambda x: x)
    return (t * law.T).sqrt().mean()


def test_drawing_by_loss_is_unbiased_with_less_variance() -> None:
    law = LossAware(T)
    assert torch.allclose(law.probabilities(), torch.full((T,), 1 / T))
    mean = float(known(law))
    rng, n = torch.Generator().manual_seed(0), 40_000
    t = law.draw(n, rng)
    weighted = law.weight(t) * (t * T).sqrt()
    assert float(weighted.mean()) == pytest.approx(mean, abs=0.01)
    even = (Knots(T).draw(n, rng) * T).sqrt()
    assert float(weighted.std()) < 0.05 * float(even.std())  # one part in a thousand of the draws is even
    shares = torch.bincount((t * T).round().long() - 1, minlength=T) / n
    assert float((shares - law.probabilities()).abs().max()) < 0.005


def test_its_memory_is_saved_and_a_step_counts_a_knot_once() -> None:
    law = LossAware(T, keep=2)
    objective = Hybrid(Denoising(nn.Linear(1, 1), PROCESS, LearnedVariance(Eps()), law), T)
    saved = collect(objective, {}, None)["objective"]
    assert sorted(saved) == ["simple.times.counts", "simple.times.squares"]
    law.note(torch.tensor([1.0, 1.0, 0.02], dtype=F64), torch.tensor([1.0, 3.0, 5.0]))
    law.settle(lambda x: x)
    assert law.squares[-1].tolist() == [0.0, 5.0] and law.squares[0].tolist() == [0.0, 25.0]
    assert law.counts.sum() == 2 and float(law.noted.abs().sum()) == 0.0
