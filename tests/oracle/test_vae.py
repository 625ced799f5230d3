"""Variational autoencoder against closed forms: its KL term, and the likelihood of a linear model known exactly."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from huggingvis.core.errors import UsageError
from huggingvis.core.noise import BatchNoise, SeedNoise
from huggingvis.core.protocols import Decodes, Encodes, Generative
from huggingvis.nets.conv_vae import ConvDecoder, ConvEncoder, sizes
from huggingvis.nets.mlp_vae import MLPDecoder, MLPEncoder
from huggingvis.objectives.vae import VAE, Bernoulli, Gaussian, NegativeELBO

STD = 0.4
D, PIXELS = 2, 6


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
