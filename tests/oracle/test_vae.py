"""Variational autoencoder against closed forms: its KL term, and the likelihood of a linear model known exactly."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from huggingvis.core.errors import UsageError
from huggingvis.core.noise import BatchNoise, SeedNoise
from huggingvis.core.protocols import Decodes, Encodes, Generative
from huggingvis.nets.conv_vae import ConvDecoder, ConvEncoder, sizes
from huggingvis.nets.mlp_vae import MLPDecoder, MLPEncoder
from huggingvis.objectives.vae import VAE, Bernoulli, Gaussian, ImportanceWeighted, NegativeELBO, active_share

STD = 0.4
D, PIXELS = 2, 6


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


class Linear(nn.Module):
    """x -> W x + b on flattened pictures, with constant log-variances appended for an encoder."""

    def __init__(self, weight: Tensor, bias: Tensor, shape: tuple[int, ...], logvar: Tensor | None = None):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.shape, self.logvar = shape, logvar

    def forward(self, x: Tensor) -> Tensor:
        out = x.flatten(1) @ self.weight.T + self.bias
        out = out if self.logvar is None else torch.cat([out, self.logvar.expand(len(x), -1)], dim=1)
        return out.unflatten(1, self.shape)


def linear_vae(shift: float = 0.0) -> tuple[VAE, Tensor, Tensor]:
    """p(x|z) = N(W z + b, s^2 I) with orthogonal columns in W, whose posterior is diagonal, and that posterior moved by
    `shift`; W and b."""
    rng = torch.Generator().manual_seed(3)
    columns = torch.linalg.qr(torch.randn(PIXELS, D, generator=rng, dtype=torch.float64)).Q
    w = columns * torch.tensor([1.5, 0.5], dtype=torch.float64)  # [PIXELS, D]
    b = torch.linspace(-0.5, 0.5, PIXELS, dtype=torch.float64)
    precision = 1 + (w**2).sum(0) / STD**2  # [D]
    gain = (w / STD**2 / precision).T  # [D, PIXELS]
    encoder = Linear(gain, -gain @ b + shift, (2 * D,), -torch.log(precision))
    decoder = Linear(w, b, (1, 2, 3))
    return VAE(encoder, decoder, Gaussian(STD), D), w, b


def marginal(w: Tensor, b: Tensor) -> torch.distributions.MultivariateNormal:
    """p(x) = N(b, W W^T + s^2 I): probabilistic PCA."""
    return torch.distributions.MultivariateNormal(b, w @ w.T + STD**2 * torch.eye(PIXELS, dtype=torch.float64))


def test_kl_is_torchs_and_the_average_of_draws() -> None:
    vae, _, _ = linear_vae(shift=0.3)
    x = BatchNoise(0).draw(torch.empty(5, 1, 2, 3, dtype=torch.float64))
    q = vae.posterior(x)
    reference = torch.distributions.kl_divergence(
        torch.distributions.Normal(q.mean, (q.logvar / 2).exp()), torch.distributions.Normal(0.0, 1.0)
    ).sum(1)
    assert torch.allclose(q.kl(), reference, atol=1e-12)
    eps = BatchNoise(8).draw(torch.empty(200_000, 5, D, dtype=torch.float64))
    z = q.draw(eps)
    drawn = 0.5 * (z**2 - eps**2 - q.logvar).sum(-1)  # log q(z|x) - log p(z): the constants cancel
    error = drawn.std(0) / len(eps) ** 0.5
    assert ((drawn.mean(0) - q.kl()).abs() < 4 * error).all() and float(error.detach().max()) < 0.01


def test_the_optimum_of_a_linear_vae_is_probabilistic_pca() -> None:
    """Lucas et al. 2019 (arXiv 1911.02469): its bound is the likelihood of Tipping & Bishop's W = U (L - s^2 I)^1/2."""
    x = pca_data()
    scatter = x.flatten(1).T @ x.flatten(1) / len(x)
    kept = torch.linalg.eigvalsh(scatter).flip(0)[:D]
    assert float(kept.min()) > STD**2  # else a direction would not be worth a latent number
    rest = torch.trace(scatter) - kept.sum()
    c = kept.log().sum() + (PIXELS - D) * math.log(STD**2) + D + rest / STD**2 + PIXELS * math.log(2 * math.pi)
    truth = float(-0.5 * c)

    rng = torch.Generator().manual_seed(5)
    small = [0.3 * torch.randn(a, b, generator=rng, dtype=torch.float64) for a, b in ((D, PIXELS), (PIXELS, D))]
    encoder = Linear(small[0], torch.zeros(D, dtype=torch.float64), (2 * D,), nn.Parameter(torch.zeros(D).double()))
    decoder = Linear(small[1], torch.zeros(PIXELS, dtype=torch.float64), (1, 2, 3))
    vae = VAE(encoder, decoder, Gaussian(STD), D)
    corners = (
        D**0.5 * torch.cat([torch.eye(D), -torch.eye(D)]).double()
    )  # quadratics average over these as over normals
    optimiser = torch.optim.LBFGS(vae.parameters(), max_iter=80, tolerance_change=1e-12, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        q = vae.posterior(x)
        told = torch.stack([vae.likelihood.log_prob(vae.decoder(q.draw(e)), x) for e in corners]).mean()
        value = q.kl().mean() - told
        value.backward()
        return value

    optimiser.step(loss)
    assert -float(loss().detach()) == pytest.approx(truth, abs=1e-6)
    w = vae.decoder.get_parameter("weight")
    assert torch.allclose(torch.linalg.eigvalsh(w.T @ w).flip(0), kept - STD**2, atol=1e-4)
    assert float(vae.log_prob(x, draws=1).mean()) == pytest.approx(truth, abs=1e-4)
    with torch.no_grad():
        losses = [NegativeELBO(vae).loss({"image": x}, 0, torch.Generator().manual_seed(i)) for i in range(20)]
    assert sum(float(each["_elbo"]) for each in losses) / 20 == pytest.approx(truth, abs=0.05)


def pca_data() -> Tensor:
    """[400, 1, 2, 3] with mean zero and two directions that stand out."""
    scale = torch.tensor([1.5, 1.0, 0.45, 0.4, 0.3, 0.2], dtype=torch.float64)
    turn = torch.linalg.qr(BatchNoise(6).draw(torch.empty(PIXELS, PIXELS, dtype=torch.float64))).Q
    x = BatchNoise(7).draw(torch.empty(400, PIXELS, dtype=torch.float64)) * scale @ turn.T
    return (x - x.mean(0)).reshape(-1, 1, 2, 3)


def test_the_importance_weighted_loss_is_the_bound_and_rises_with_the_draws() -> None:
    vae, w, b = linear_vae(shift=0.4)
    x = marginal(w, b).sample((4000,)).reshape(-1, 1, 2, 3)
    truth = float(marginal(w, b).log_prob(x.flatten(1)).mean())
    bounds, shares = [], []
    with torch.no_grad():
        for k in (1, 2, 5, 20, 100):
            told = ImportanceWeighted(vae, k).loss({"image": x}, 0, torch.Generator().manual_seed(1))
            bounds.append(-float(told["bound"]))
            shares.append(float(told["_effective"]))
            assert float(told["_elbo"]) == pytest.approx(bounds[0], abs=0.08)
    assert bounds == sorted(bounds) and bounds[-1] < truth + 0.01
    assert truth - bounds[0] > 0.3 and truth - bounds[-1] < 0.1
    assert shares[0] == 1.0 and all(a > b for a, b in itertools.pairwise(shares))
    elbo = NegativeELBO(vae).loss({"image": x}, 0, torch.Generator().manual_seed(1))
    assert bounds[0] == pytest.approx(float(elbo["_elbo"]), abs=0.05)
    with pytest.raises(UsageError, match="at least one draw"):
        ImportanceWeighted(vae, 0)


def test_the_importance_weighted_gradient_weighs_the_draws() -> None:
    """d/dtheta log mean w = sum of (normalised w) d log w: Burda et al. 2015, Eq. 14, on the decoder's weights."""
    vae, w, b = linear_vae(shift=0.3)
    x = marginal(w, b).sample((3,)).reshape(-1, 1, 2, 3)
    k, weight = 4, vae.decoder.get_parameter("weight")
    told = ImportanceWeighted(vae, k).loss({"image": x}, 0, torch.Generator().manual_seed(2))
    (ours,) = torch.autograd.grad(told["bound"], weight)
    eps = torch.randn((k * 3, D), generator=torch.Generator().manual_seed(2), dtype=torch.float64).unflatten(0, (k, 3))
    q = vae.posterior(x)
    logs = torch.stack([vae.log_weight(x, q, e) for e in eps])  # [K, B]
    (theirs,) = torch.autograd.grad(-(logs.softmax(0).detach() * logs).sum(0).mean(), weight)
    assert torch.allclose(ours, theirs, atol=1e-12) and float(ours.abs().max()) > 0.1


def test_active_numbers_are_those_that_move() -> None:
    mean = torch.zeros(100, 4)
    mean[:, 1] = torch.linspace(-1, 1, 100)
    mean[:, 2] = 5 + 0.01 * torch.linspace(-1, 1, 100)
    assert float(active_share(mean)) == 0.25


def test_importance_bound_is_exact_where_the_posterior_is() -> None:
    vae, w, b = linear_vae()
    x = BatchNoise(1).draw(torch.empty(7, 1, 2, 3, dtype=torch.float64))
    truth = marginal(w, b).log_prob(x.flatten(1))
    for draws in (1, 3):
        assert torch.allclose(vae.log_prob(x, draws=draws), truth, atol=1e-10)


def test_importance_bound_rises_to_the_likelihood_where_the_posterior_is_wrong() -> None:
    vae, w, b = linear_vae(shift=0.4)
    x = BatchNoise(2).draw(torch.empty(2000, 1, 2, 3, dtype=torch.float64))
    truth = float(marginal(w, b).log_prob(x.flatten(1)).mean())
    bounds = [float(vae.log_prob(x, draws=k).mean()) for k in (1, 4, 64)]
    assert bounds[0] < bounds[1] < bounds[2] < truth + 0.02
    assert truth - bounds[0] > 0.3 and truth - bounds[2] < 0.1


def test_loss_is_the_negative_bound() -> None:
    """With the exact posterior, each single draw of -log p(x|z) + KL averages to -log p(x)."""
    vae, w, b = linear_vae()
    x = marginal(w, b).sample((20_000,)).reshape(-1, 1, 2, 3)
    with torch.no_grad():
        losses = NegativeELBO(vae).loss({"image": x}, 0, torch.Generator().manual_seed(0))
        twice = NegativeELBO(vae, beta=2.0).loss({"image": x}, 0, torch.Generator().manual_seed(0))
    truth = -float(marginal(w, b).log_prob(x.flatten(1)).mean())
    assert float(losses["reconstruction"] + losses["kl"]) == pytest.approx(truth, abs=0.02)
    assert float(losses["_elbo"]) == pytest.approx(-truth, abs=0.02)
    assert float(twice["kl"]) == pytest.approx(2 * float(losses["kl"]), rel=1e-12)


def test_likelihoods_are_torchs() -> None:
    out = BatchNoise(3).draw(torch.empty(4, 1, 3, 3, dtype=torch.float64))
    x = torch.where(out > 0.2, 1.0, -1.0).to(torch.float64)
    bernoulli = torch.distributions.Bernoulli(logits=out).log_prob((x + 1) / 2).flatten(1).sum(1)
    assert torch.allclose(Bernoulli().log_prob(out, x), bernoulli, atol=1e-12)
    normal = torch.distributions.Normal(out, 0.3).log_prob(x).flatten(1).sum(1)
    assert torch.allclose(Gaussian(0.3).log_prob(out, x), normal, atol=1e-12)
    assert torch.allclose(Bernoulli().mean(out), torch.tanh(out / 2), atol=1e-12)
    with pytest.raises(UsageError, match="positive"):
        Gaussian(0.0)


def test_binarised_pictures_have_the_grey_values_as_their_mean() -> None:
    grey = torch.linspace(-1, 1, 9).reshape(1, 1, 3, 3).repeat(20_000, 1, 1, 1)
    seen = Bernoulli(binarise=True).observe(grey, torch.Generator().manual_seed(0))
    assert set(seen.unique().tolist()) == {-1.0, 1.0}
    assert torch.allclose(seen.mean(0), grey[0], atol=0.03)
    assert Bernoulli().observe(grey, torch.Generator()) is grey


@pytest.mark.parametrize("side", [4, 5, 8, 13, 28])
@pytest.mark.parametrize("channels", [1, 3])
def test_networks_of_any_size(side: int, channels: int) -> None:
    shape = (channels, side, side)
    conv = VAE(ConvEncoder(shape, 3, (8, 16, 8)), ConvDecoder(shape, 3, (8, 16, 8)), Bernoulli(), 3)
    mlp = VAE(MLPEncoder(shape, 3, (16, 8)), MLPDecoder(shape, 3, (8, 16)), Gaussian(), 3)
    for vae in (conv, mlp):
        assert isinstance(vae, Encodes) and isinstance(vae, Decodes) and isinstance(vae, Generative)
        x = torch.rand(2, *shape) * 2 - 1
        assert vae.encode(x).shape == (2, 3) and vae.decode(vae.encode(x)).shape == x.shape
        losses = NegativeELBO(vae).loss({"image": x}, 0, torch.Generator().manual_seed(0))
        (losses["reconstruction"] + losses["kl"]).backward()
        assert all(p.grad is not None and math.isfinite(float(p.grad.sum())) for p in vae.parameters())
        drawn = vae.sample(2, {}, noise=SeedNoise([4, 5])).detach()
        assert torch.allclose(drawn[1:], vae.sample(1, {}, noise=SeedNoise([5])), atol=1e-6)


def test_sizes_halve_upwards_and_stop_at_four() -> None:
    assert sizes(28, 28, 3) == [(28, 28), (14, 14), (7, 7), (4, 4)]
    assert sizes(13, 9, 8) == [(13, 9), (7, 5), (4, 3)]
    assert sizes(4, 4, 3) == [(4, 4)]
