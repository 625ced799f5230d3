"""Guidance: neutral settings change no bit, one batched call equals two, and the mixture's closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from huggingvis.core.belief import Gaussian
from huggingvis.core.diffusion import compose
from huggingvis.core.errors import UsageError
from huggingvis.core.noise import ReplayNoise
from huggingvis.core.protocols import Cond
from huggingvis.core.sample import sample
from huggingvis.data.mixture import standard_mixture
from huggingvis.guidance.cfg import ClassifierFree, towards
from huggingvis.guidance.threshold import Clip, DynamicThreshold
from huggingvis.objectives.ode import RungeKutta4
from huggingvis.objectives.probability_flow import Exact, ProbabilityFlow
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.processes.vp import LinearVP
from huggingvis.samplers.grids import Uniform
from huggingvis.samplers.heun import Heun

F64 = torch.float64
T = torch.tensor(0.5, dtype=F64)


class Pooling:
    """A denoiser that reads tokens through their mask, a shared map and the clock; counts its calls."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.keys: set[str] = set()

    def __call__(self, x: Tensor, t: Tensor, cond: Cond) -> Gaussian:
        self.batches.append(len(x))
        self.keys = set(cond)
        tokens = cond["tokens"]
        mask = cond.get("tokens_mask", torch.ones(tokens.shape[:2], dtype=torch.bool))[..., None]
        pooled = (tokens * mask).sum(1) / mask.sum(1)  # [B, D]
        return Gaussian(torch.tanh(x + pooled * t.reshape(-1, 1) + cond["concat"]))


def condition(positive: int = 5, negative: int = 3) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    return {
        "tokens": torch.randn(4, positive, 6, dtype=F64, generator=g),
        "negative.tokens": torch.randn(4, negative, 6, dtype=F64, generator=g),
        "concat": torch.randn(4, 6, dtype=F64, generator=g),
    }


def noisy() -> Tensor:
    return torch.randn(4, 6, dtype=F64, generator=torch.Generator().manual_seed(1))


def halves(cond: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    shared = {"concat": cond["concat"]}
    return {"tokens": cond["negative.tokens"], **shared}, {"tokens": cond["tokens"], **shared}


@pytest.mark.parametrize(
    "guidance",
    [ClassifierFree(1.0), ClassifierFree(7.0, interval=(0.6, 1.0)), ClassifierFree(3.0, interval=(0.0, 0.4))],
)
def test_neutral_guidance_changes_no_bit(guidance: ClassifierFree) -> None:
    net, cond, x = Pooling(), condition(), noisy()
    got = guidance(net)(x, T, cond)
    assert torch.equal(got.x0, net(x, T, halves(cond)[1]).x0)
    assert net.batches == [4, 4] and net.keys == {"tokens", "concat"}


@pytest.mark.parametrize(("positive", "negative"), [(5, 5), (5, 3), (2, 7)])
@pytest.mark.parametrize("t", [T, torch.tensor([0.1, 0.4, 0.6, 0.9], dtype=F64)])
def test_one_doubled_call_equals_two(positive: int, negative: int, t: Tensor) -> None:
    net, cond, x = Pooling(), condition(positive, negative), noisy()
    got = ClassifierFree(4.0)(net)(x, t, cond).x0
    assert net.batches == [8]
    neg, pos = (net(x, t, half).x0 for half in halves(cond))
    assert float((got - (neg + 4.0 * (pos - neg))).abs().max()) < 1e-12


def test_masks_given_for_one_half_only() -> None:
    net, cond, x = Pooling(), condition(5, 5), noisy()
    keep = torch.tensor([True, True, False, True, False]).expand(4, 5)
    got = ClassifierFree(2.0)(net)(
        x, T, {**cond, "tokens_mask": keep, "negative.tokens_mask": torch.ones(4, 5).bool()}
    ).x0
    neg, pos = halves(cond)
    want = 2 * net(x, T, {**pos, "tokens_mask": keep}).x0 - net(x, T, neg).x0
    assert float((got - want).abs().max()) < 1e-12


def test_scale_zero_is_the_negative_belief() -> None:
    net, cond, x = Pooling(), condition(), noisy()
    assert torch.equal(ClassifierFree(0.0)(net)(x, T, cond).x0, net(x, T, halves(cond)[0]).x0)


def test_interval_per_sample() -> None:
    net, cond, x = Pooling(), condition(), noisy()
    t = torch.tensor([0.1, 0.4, 0.6, 0.9], dtype=F64)
    got = ClassifierFree(4.0, interval=(0.4, 0.6))(net)(x, t, cond).x0  # both ends belong to it
    always = ClassifierFree(4.0)(net)(x, t, cond).x0
    pos = net(x, t, halves(cond)[1]).x0
    assert torch.equal(got[1:3], always[1:3])
    assert float((got - pos)[[0, 3]].abs().max()) < 1e-15


def test_rescale() -> None:
    net, cond, x = Pooling(), condition(), noisy()
    neg, pos = (net(x, T, half).x0 for half in halves(cond))
    plain = neg + 6.0 * (pos - neg)
    full = plain * pos.std(1, keepdim=True) / plain.std(1, keepdim=True)
    for phi, want in ((0.7, 0.7 * full + 0.3 * plain), (1.0, full)):
        got = ClassifierFree(6.0, rescale=phi)(net)(x, T, cond).x0
        assert float((got - want).abs().max()) < 1e-12
    assert float((ClassifierFree(6.0, rescale=1.0)(net)(x, T, cond).x0.std(1) - pos.std(1)).abs().max()) < 1e-12


def test_guidance_without_a_negative_half_says_so() -> None:
    with pytest.raises(UsageError, match="negative.tokens"):
        ClassifierFree(3.0)(Pooling())(noisy(), T, {"tokens": condition()["tokens"]})


def test_two_halves_with_different_keys_say_so() -> None:
    with pytest.raises(UsageError, match="vector"):
        ClassifierFree(3.0)(Pooling())(noisy(), T, {**condition(), "negative.vector": torch.zeros(4, 2)})


def test_a_variance_is_the_positive_ones() -> None:
    neg, pos = (Gaussian(noisy(), logvar=torch.full((4, 6), told, dtype=F64)) for told in (-3.0, -1.0))
    guided = towards(neg, pos, 2.5)
    assert isinstance(guided, Gaussian) and guided.logvar is pos.logvar


def test_guided_mixture_is_the_guided_score() -> None:
    """w = 1 is the class-conditional score; w > 1 adds (w - 1) grad log p(class | x_t), by autograd."""
    mixture, process = standard_mixture(), LinearVP()
    x = torch.randn(32, 2, dtype=F64, generator=torch.Generator().manual_seed(3)).requires_grad_()
    classes = torch.arange(32) % 3
    cond = {"class": classes, "negative.class": torch.full((32,), -1)}
    log_p = mixture.log_prob(x, process, T)
    log_class = torch.log(mixture.class_posterior(x, process, T))[torch.arange(32), classes]
    grad_p = torch.autograd.grad(log_p.sum(), x, retain_graph=True)[0]
    grad_class = torch.autograd.grad(log_class.sum(), x)[0]
    x = x.detach()
    for w in (1.0, 2.5):
        belief = ClassifierFree(w)(mixture.denoiser(process))(x, T, cond)
        score = process.score(x, belief.x0, T)
        assert float((score - (grad_p + w * grad_class)).abs().max()) < 1e-10


@pytest.mark.parametrize(
    ("w", "mean", "variance", "differs"),
    [(1.0, (1.5, 0.0), (0.100, 0.060), 0.0), (2.0, (1.691, 0.047), (0.0574, 0.0439), 0.329),
     (4.0, (1.909, 0.101), (0.0390, 0.0357), 1.183)],
)  # fmt: skip
def test_the_law_that_guidance_draws(
    w: float, mean: tuple[float, float], variance: tuple[float, float], differs: float
) -> None:
    """Of the guided flow's samples the density is known by its own change of variables: a density (mass 1), whose
    moments the samples have. It is not p(x|c)^w p(x)^(1-w), which is all but the class itself: `differs` is the
    divergence from the one to the other, in nats.
    """
    mixture, process, clean = standard_mixture(), RectifiedFlow(), torch.tensor(0.0, dtype=F64)
    guided = ClassifierFree(w)(mixture.denoiser(process))

    def cond(n: int) -> dict[str, Tensor]:
        return {"class": torch.zeros(n, dtype=torch.int64), "negative.class": torch.full((n,), -1)}

    axes = torch.linspace(0.1, 3.3, 49, dtype=F64), torch.linspace(-1.6, 1.6, 49, dtype=F64)
    x, cell = torch.cartesian_prod(*axes), (3.2 / 48) ** 2
    p = ProbabilityFlow(guided, process, Exact(), RungeKutta4(30), least=1e-4).log_prob(x, cond(len(x))).exp() * cell
    assert float(p.sum()) == pytest.approx(1.0, abs=1e-3)
    centre = (p[:, None] * x).sum(0)
    cov = ((x - centre).T * p) @ (x - centre)
    assert centre.tolist() == pytest.approx(mean, abs=2e-3)
    assert cov.diagonal().tolist() == pytest.approx(variance, abs=5e-4)

    power = mixture.log_prob(x, process, clean) + w * mixture.class_posterior(x, process, clean)[:, 0].log()
    nats = (p * (p.clamp(min=1e-300).log() - torch.log_softmax(power, 0))).sum()
    assert float(nats) == pytest.approx(differs, abs=5e-3)

    n = 1500
    start = torch.randn(n, 2, dtype=F64, generator=torch.Generator().manual_seed(5))
    drawn = sample(guided, process, Heun(1.0), start, Uniform(40)(process), cond(n), noise=ReplayNoise([]))
    sd = cov.diagonal().sqrt()
    assert bool(((drawn.mean(0) - centre).abs() < 4 * sd / n**0.5).all())
    assert bool(((torch.cov(drawn.T) - cov).abs() < 4 * sd[:, None] * sd * (3 / n) ** 0.5).all())


def test_class_conditional_mixture_is_its_component() -> None:
    mixture, process = standard_mixture(), LinearVP()
    x = torch.randn(9, 2, dtype=F64, generator=torch.Generator().manual_seed(4))
    a, s = process.coefficients(T, x)
    for k in range(3):
        cov = a**2 * mixture.covs[k] + s**2 * torch.eye(2, dtype=F64)
        off = x - a * mixture.means[k]
        want = mixture.means[k] + a * (mixture.covs[k] @ torch.linalg.solve(cov, off.T)).T
        got = mixture.denoiser(process)(x, T, {"class": torch.full((9,), k)}).x0
        assert float((got - want).abs().max()) < 1e-12


def test_mixture_density_integrates_and_posterior_is_bayes() -> None:
    mixture, process = standard_mixture(), LinearVP()
    axis = torch.linspace(-6, 6, 241, dtype=F64)
    grid = torch.cartesian_prod(axis, axis)
    cell = float(axis[1] - axis[0]) ** 2
    for t in (0.0, 0.3, 1.0):
        total = mixture.log_prob(grid, process, torch.tensor(t, dtype=F64)).exp().sum() * cell
        assert float(total) == pytest.approx(1.0, abs=1e-6)
    a, y = torch.tensor([[1.0, 0.5]], dtype=F64), torch.tensor([0.2], dtype=F64)
    clean = torch.tensor(0.0, dtype=F64)
    prior = mixture.log_prob(grid, process, clean)
    joint = prior - 0.5 * ((grid @ a.T - y) / 0.3).square().sum(1)
    want = joint - torch.logsumexp(joint, 0) - torch.log(torch.tensor(cell, dtype=F64))
    got = mixture.posterior(a, y, 0.3).log_prob(grid, process, clean)
    likely = want > want.max() - 12
    assert float((got - want)[likely].abs().max()) < 1e-6


def test_mixture_draws_have_its_moments() -> None:
    mixture, n = standard_mixture(), 50_000
    x, k = mixture.sample_labelled(n, torch.Generator().manual_seed(0))
    sd = mixture.cov.diagonal().sqrt()
    assert bool(((x.mean(0) - mixture.mean).abs() < 4 * sd / n**0.5).all())
    assert bool(((torch.cov(x.T) - mixture.cov).abs() < 4 * sd[:, None] * sd * (3 / n) ** 0.5).all())
    assert float((torch.bincount(k) / n - mixture.weights).abs().max()) < 0.01
    assert torch.equal(x, mixture.sample(n, torch.Generator().manual_seed(0)))


def test_thresholds() -> None:
    def far(x: Tensor, t: Tensor, cond: Cond) -> Gaussian:
        return Gaussian(4 * x)

    x = noisy()
    assert torch.equal(Clip()(far)(x, T, {}).x0, (4 * x).clamp(-1, 1))
    s = torch.quantile((4 * x).abs(), 0.9, dim=1).clamp(min=1)[:, None]
    got = compose(far, (DynamicThreshold(0.9),))(x, T, {}).x0
    assert torch.equal(got, torch.maximum(torch.minimum(4 * x, s), -s) / s) and float(got.abs().max()) == 1.0
