"""Conditional autoencoder against the plain one, Monte Carlo, and a linear model whose conditional law is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from huggingvis.core.errors import UsageError
from huggingvis.core.noise import BatchNoise, ReplayNoise, SeedNoise
from huggingvis.core.protocols import Batch, Completes, Decodes, Encodes, Generative, Likelihood
from huggingvis.nets.autoencoder_kl import Posterior
from huggingvis.nets.conv_vae import ConvDecoder, ConvEncoder
from huggingvis.nets.mlp_vae import MLPDecoder, MLPEncoder, MLPPrior
from huggingvis.objectives.completion import BesideBaseline, Completer, Independent, Quadrants
from huggingvis.objectives.cvae import CVAE, ConditionalELBO, StandardPrior, Vector, kl_between
from huggingvis.objectives.vae import VAE, Bernoulli, Gaussian, NegativeELBO

SHAPE, D, K = (1, 6, 5), 3, 4


def labels(batch: Batch) -> dict[str, Tensor]:
    return {"vector": batch["vector"]}


def picture(batch: Batch) -> dict[str, Tensor]:
    return {"concat": batch["image"]}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def on_off(n: int) -> Tensor:
    return torch.where(BatchNoise(n).draw(torch.empty(n, *SHAPE)) > 0, 1.0, -1.0)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_without_a_condition_it_is_the_vae() -> None:
    """The same losses, gradients, samples and likelihoods, to the bit."""
    encoder, decoder = MLPEncoder(SHAPE, D, (16,)), MLPDecoder(SHAPE, D, (16,))
    vae = VAE(encoder, decoder, Bernoulli(), D)
    cvae = CVAE(encoder, decoder, StandardPrior(D), Bernoulli(), Vector(0), D)
    x = on_off(7)
    told = NegativeELBO(vae, beta=0.7).loss({"image": x}, 0, rng())
    ours = ConditionalELBO(cvae, lambda batch: {}, beta=0.7).loss({"image": x}, 0, rng())
    assert told == ours
    want = torch.autograd.grad(told["reconstruction"] + told["kl"], list(vae.parameters()))
    found = torch.autograd.grad(ours["reconstruction"] + ours["kl"], list(vae.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(want, found, strict=True))
    assert torch.equal(vae.log_prob(x, draws=5), cvae.log_prob(x, draws=5))
    assert torch.equal(vae.sample(2, {}, noise=SeedNoise([1, 2])), cvae.sample(2, {}, noise=SeedNoise([1, 2])))


def test_a_condition_that_nobody_reads_leaves_the_vae() -> None:
    """With the condition's columns at zero and a fresh learned prior, the conditional model is the plain one."""
    vae = VAE(MLPEncoder(SHAPE, D, (16,)), MLPDecoder(SHAPE, D, (16,)), Bernoulli(), D)
    encoder, decoder = MLPEncoder(SHAPE, D, (16,), cond_dim=K), MLPDecoder(SHAPE, D + K, (16,))
    cvae = CVAE(encoder, decoder, MLPPrior(K, D, (8,)), Bernoulli(), Vector(K), D)
    with torch.no_grad():
        for (_, mine), (_, its) in zip(cvae.named_parameters(), vae.named_parameters()):
            if mine.shape == its.shape:
                mine.copy_(its)
            else:
                mine.zero_()[:, : its.shape[1]] = its
    cond = {"vector": torch.eye(K)[torch.arange(7) % K]}
    x = on_off(7)
    told = NegativeELBO(vae).loss({"image": x}, 0, rng())
    ours = ConditionalELBO(cvae, labels).loss({"image": x, **cond}, 0, rng())
    for key in ("reconstruction", "kl"):
        assert float(ours[key].detach()) == pytest.approx(float(told[key].detach()), rel=1e-6)
    assert torch.allclose(vae.log_prob(x, draws=4), cvae.log_prob(x, cond, draws=4), atol=1e-4)


def test_kl_between_two_normals_is_the_average_of_draws() -> None:
    mean = BatchNoise(0).draw(torch.empty(2, 6, D, dtype=torch.float64))
    logvar = 0.7 * BatchNoise(1).draw(mean)
    q, p = Posterior(mean[0], logvar[0]), Posterior(mean[1], logvar[1])
    normals = [torch.distributions.Normal(n.mean, (n.logvar / 2).exp()) for n in (q, p)]
    want = torch.distributions.kl_divergence(*normals).sum(1)
    assert torch.allclose(kl_between(q, p), want, atol=1e-12)
    z = q.draw(BatchNoise(2).draw(torch.empty(200_000, 6, D, dtype=torch.float64)))
    drawn = (normals[0].log_prob(z) - normals[1].log_prob(z)).sum(-1)
    error = drawn.std(0) / len(z) ** 0.5
    assert ((drawn.mean(0) - kl_between(q, p)).abs() < 4 * error).all() and float((error / want).max()) < 0.01
    assert float(kl_between(q, q).abs().max()) < 1e-12
    assert torch.allclose(kl_between(q, Posterior(torch.zeros(6, D), torch.zeros(6, D))), q.kl(), atol=1e-12)


class Exact(nn.Module):
    """The true posterior of y = W z + A c + noise with z ~ N(B c, s^2 I), of (y, c); or the prior, of c."""

    def __init__(self, maps: list[Tensor], logvar: Tensor, shift: float = 0.0):
        super().__init__()
        self.maps, self.logvar, self.shift = maps, logvar, shift

    def forward(self, *given: Tensor) -> Tensor:
        parts = [x.flatten(1) @ m.T for x, m in zip(given, self.maps, strict=True)]
        mean = torch.stack(parts).sum(0) + self.shift
        return torch.cat([mean, self.logvar.expand_as(mean)], dim=1)


class LinearDecoder(nn.Module):
    def __init__(self, weight: Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, z: Tensor) -> Tensor:
        return (z @ self.weight.T).unflatten(1, SHAPE)


def linear(shift: float = 0.0) -> tuple[CVAE, Tensor, Tensor, Tensor]:
    """A conditional model with its exact posterior (moved by `shift`); conditions, pictures, and log p(y|c)."""
    n, std, spread = 30, 0.5, 0.8
    w = torch.linalg.qr(BatchNoise(0).draw(torch.empty(n, D, dtype=torch.float64))).Q
    a, b = (BatchNoise(i).draw(torch.empty(*size, dtype=torch.float64)) for i, size in ((1, (n, K)), (2, (D, K))))
    precision = 1 / spread**2 + 1 / std**2
    gain = w.T / std**2 / precision  # of (y - A c)
    encoder = Exact([gain, b / spread**2 / precision - gain @ a], -torch.tensor(precision).log().expand(D), shift)
    prior = Exact([b], torch.tensor(2.0).double() * torch.tensor(spread).log().expand(D))
    cvae = CVAE(encoder, LinearDecoder(torch.cat([w, a], dim=1)), prior, Gaussian(std), Vector(K), D)
    c = BatchNoise(3).draw(torch.empty(400, K, dtype=torch.float64))
    covariance = spread**2 * w @ w.T + std**2 * torch.eye(n, dtype=torch.float64)
    law = torch.distributions.MultivariateNormal(c @ (w @ b + a).T, covariance)
    y = law.sample()
    return cvae, c, y.unflatten(1, SHAPE), law.log_prob(y)


def test_both_estimates_of_the_conditional_likelihood_approach_it() -> None:
    cvae, c, y, truth = linear()
    assert torch.allclose(cvae.log_prob(y, {"vector": c}, draws=1), truth, atol=1e-6)
    loss = ConditionalELBO(cvae, labels).loss({"image": y, "vector": c}, 0, rng())
    assert float(loss["_elbo"]) == pytest.approx(float(truth.mean()), abs=0.2)
    moved = linear(shift=0.3)[0]
    for estimate in (moved.log_prob, moved.monte_carlo_log_prob):
        bounds = [float(estimate(y, {"vector": c}, draws=k).mean()) for k in (1, 10, 300)]
        assert bounds[0] < bounds[1] < bounds[2] < float(truth.mean()) + 0.05
        assert float(truth.mean()) - bounds[2] < 0.15


def test_samples_have_the_conditional_law() -> None:
    cvae, c, _, _ = linear()
    one = c[:1].expand(60_000, -1)
    y = cvae.sample(len(one), {"vector": one}, noise=BatchNoise(5)).detach().flatten(1)
    mean = cvae.decode(cvae.prior(c[:1])[:, :D], {"vector": c[:1]}).detach().flatten()
    assert torch.allclose(y.mean(0), mean, atol=0.02)
    w = cvae.decoder.get_parameter("weight").detach()[:, :D]
    assert torch.allclose(torch.cov(y.T), 0.64 * w @ w.T, atol=0.02)


def test_gsnn_draws_from_the_prior_and_the_hybrid_mixes() -> None:
    cvae, c, y, _ = linear(shift=0.3)
    batch = {"image": y, "vector": c}
    pure, half, gsnn = (ConditionalELBO(cvae, labels, alpha=a).loss(batch, 0, rng()) for a in (1.0, 0.5, 0.0))
    assert "gsnn" not in pure and float(gsnn["reconstruction"]) == float(gsnn["kl"]) == 0.0
    for key in ("reconstruction", "kl"):
        assert float(half[key]) == pytest.approx(0.5 * float(pure[key]), rel=1e-12)
    assert float(half["gsnn"]) == pytest.approx(0.5 * float(gsnn["gsnn"]), rel=1e-12)
    expected = -float(
        torch.stack([cvae.monte_carlo_log_prob(y, labels(batch), draws=1, seed=i) for i in range(40)]).mean()
    )
    assert float(gsnn["gsnn"]) == pytest.approx(expected, rel=0.02)
    with pytest.raises(UsageError, match="between 0 and 1"):
        ConditionalELBO(cvae, labels, alpha=1.5)


def test_quadrants_are_given_one_after_another() -> None:
    one, two, three = (Quadrants(n).mask(28, 28) for n in (1, 2, 3))
    assert one[14:, :14].all() and int(one.sum()) == 196
    assert two[:, :14].all() and int(two.sum()) == 392
    assert not three[14:, 14:].any() and int(three.sum()) == 588
    assert int(Quadrants(1).mask(5, 5).sum()) == 3 * 2
    with pytest.raises(UsageError, match="One, two or three"):
        Quadrants(4)


def completing(given: Quadrants, p: int) -> CVAE:
    """A small model of what is hidden among `p` values."""
    encoder, decoder = MLPEncoder(SHAPE, D, (8,), cond_dim=p), MLPDecoder(SHAPE, D + p, (8,))
    return CVAE(encoder, decoder, MLPPrior(p, D, (8,)), Bernoulli(), given, D)


@pytest.mark.parametrize("seen", [1, 2, 3])
def test_only_hidden_values_are_told_and_only_given_ones_are_read(seen: int) -> None:
    given = Quadrants(seen)
    p, hidden = 30, int((~given.mask(6, 5)).sum())
    cvae = completing(given, p)
    nn.init.normal_(cvae.prior.get_parameter("layers.2.weight"))
    baseline = Independent(MLPDecoder(SHAPE, p, (8,)), Bernoulli(), given)
    x = on_off(4)
    other = torch.where(given.mask(6, 5), x, -x)  # the same where given
    before, after = ({"concat": pictures} for pictures in (x, other))
    assert torch.equal(given.numbers(before, 4, x), given.numbers(after, 4, x))
    for model in (cvae, baseline):
        assert torch.equal(model.log_prob(x, before), model.log_prob(x, after))
    drawn = cvae.sample(4, before, noise=SeedNoise(range(4)))
    for made in (drawn, baseline.predict(before)):
        assert torch.equal(made[:, :, given.mask(6, 5)], x[:, :, given.mask(6, 5)])
        assert int((made != x).sum()) == 4 * hidden
    completer = Completer(cvae, given)
    assert isinstance(completer, Completes) and torch.equal(completer.seen(x)[0, 0], given.mask(6, 5))
    middle = ReplayNoise([torch.zeros(4, D)])  # z* = E[z|x]
    assert torch.equal(completer.complete(x, noise=middle), completer.likeliest(x))
    assert torch.equal(completer.likeliest(x), completer.likeliest(other))
    nn.init.zeros_(baseline.decoder.get_parameter("layers.2.weight"))
    nn.init.zeros_(baseline.decoder.get_parameter("layers.2.bias"))
    assert torch.allclose(baseline.log_prob(x, before), torch.tensor(hidden * -0.693147), atol=1e-4)
    with pytest.raises(UsageError, match="completes pictures"):
        cvae.sample(1, {}, noise=SeedNoise([0]))


def test_the_baseline_trains_beside_and_apart() -> None:
    given, p = Quadrants(2), 30
    cvae = completing(given, p)
    baseline = Independent(MLPDecoder(SHAPE, p, (8,)), Bernoulli(), given)
    objective = BesideBaseline(ConditionalELBO(cvae, picture), baseline, draws=50)
    assert set(objective.nets()) == {"cvae", "baseline"} == set(objective.turns(0)[0].nets)
    told = objective.loss({"image": on_off(9)}, 0, rng())
    assert set(told) == {"reconstruction", "kl", "baseline", "_elbo", "_active"}
    assert all(g is None for g in torch.autograd.grad(told["baseline"], list(cvae.parameters()), allow_unused=True))
    both = told["reconstruction"] + told["kl"]
    assert all(g is None for g in torch.autograd.grad(both, list(baseline.parameters()), allow_unused=True))
    scored = objective.validate({"image": on_off(9)}, rng())
    assert float(scored["_negative_cll"]) < float(scored["reconstruction"] + scored["kl"]) + 0.5


@pytest.mark.parametrize("side", [4, 9])
def test_networks_of_any_size(side: int) -> None:
    shape = (3, side, side)
    cvae = CVAE(
        ConvEncoder(shape, D, (8, 8), cond_dim=K),
        ConvDecoder(shape, D + K, (8, 8)),
        MLPPrior(K, D),
        Gaussian(),
        Vector(K),
        D,
    )
    assert all(isinstance(cvae, kind) for kind in (Encodes, Decodes, Generative, Likelihood))
    x, cond = torch.rand(3, *shape) * 2 - 1, {"vector": torch.eye(K)[:3]}
    nn.init.normal_(cvae.prior.get_parameter("layers.2.weight"))
    told = ConditionalELBO(cvae, labels).loss({"image": x, **cond}, 0, rng())
    (told["reconstruction"] + told["kl"]).backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in cvae.parameters())
    assert cvae.decode(cvae.encode(x)).shape == x.shape and cvae.encode(x, cond).shape == (3, D)
    assert not torch.equal(cvae.encode(x, cond), cvae.encode(x))
    drawn = cvae.sample(2, {"vector": torch.eye(K)[:2]}, noise=SeedNoise([4, 5])).detach()
    one = cvae.sample(1, {"vector": torch.eye(K)[1:2]}, noise=SeedNoise([5])).detach()
    assert torch.allclose(drawn[1:], one, rtol=1e-4, atol=1e-5)
