"""Autoencoder against principal component analysis, and the law of its codes against the codes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from huggingvis.core.errors import UsageError
from huggingvis.core.noise import BatchNoise, SeedNoise
from huggingvis.core.objective import Turn
from huggingvis.core.protocols import Decodes, Encodes, Generative
from huggingvis.nets.conv_vae import ConvDecoder, ConvEncoder
from huggingvis.nets.mlp_vae import MLPDecoder, MLPEncoder
from huggingvis.objectives.autoencoder import Autoencoder, CrossEntropy, PixelError, Reconstruction, SquaredError

SHAPE, D = (2, 3, 2), 3
PIXELS = 12
RNG = torch.Generator()


def linear() -> Autoencoder:
    """One linear layer each way: an MLP without hidden layers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder, decoder = MLPEncoder(SHAPE, D, (), moments=1), MLPDecoder(SHAPE, D, ())
        return Autoencoder(encoder, decoder, SquaredError(), D).double()


def pictures(count: int = 500) -> Tensor:
    """Correlated values around a mean that is not zero."""
    scale = torch.linspace(1.0, 0.1, PIXELS, dtype=torch.float64)
    turn = torch.linalg.qr(BatchNoise(1).draw(torch.empty(PIXELS, PIXELS, dtype=torch.float64))).Q
    x = BatchNoise(2).draw(torch.empty(count, PIXELS, dtype=torch.float64)) * scale @ turn.T + 0.3
    return x.unflatten(1, SHAPE)


def test_a_linear_autoencoder_finds_the_principal_subspace() -> None:
    ae, x = linear(), pictures()
    objective = Reconstruction(ae)
    optimiser = torch.optim.LBFGS(ae.parameters(), max_iter=500, tolerance_change=1e-15, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = objective.loss({"image": x}, 0, RNG)["reconstruction"]
        value.backward()
        return value

    optimiser.step(loss)
    flat = x.flatten(1)
    values, vectors = torch.linalg.eigh(torch.cov(flat.T, correction=0))  # ascending
    assert float(loss()) == pytest.approx(float(values[:-D].sum()), rel=1e-6)
    span = torch.linalg.qr(ae.decoder.get_parameter("layers.0.weight").detach()).Q  # [PIXELS, D]
    residual = span - vectors[:, -D:] @ (vectors[:, -D:].T @ span)
    assert float(torch.linalg.matrix_norm(residual, 2).asin()) < 1e-3  # sine of the largest principal angle
    told = objective.loss({"image": x}, 0, RNG)
    assert float(told["_squared_error"]) == pytest.approx(float(told["reconstruction"]) / 4)


def test_errors_are_what_they_say() -> None:
    x = pictures(5).clamp(-1, 1)
    out = BatchNoise(3).draw(x)
    grey = (x + 1) / 2
    entropy = -(grey * out.sigmoid().log() + (1 - grey) * (1 - out.sigmoid()).log()).flatten(1).sum(1)
    assert torch.allclose(CrossEntropy().error(out, x), entropy, atol=1e-12)
    assert torch.allclose(SquaredError().error(out, x), ((x - out) ** 2).sum((1, 2, 3)), atol=1e-12)
    assert torch.allclose(SquaredError(logistic=True).error(out, x), 4 * ((grey - out.sigmoid()) ** 2).sum((1, 2, 3)))
    assert torch.allclose(CrossEntropy().picture(out), 2 * out.sigmoid() - 1)


def test_the_law_of_the_codes_is_their_mean_and_covariance() -> None:
    ae, z = linear(), 3 + 0.5 * BatchNoise(4).draw(torch.empty(6, 40, D, dtype=torch.float64)).cumsum(-1)
    with pytest.raises(UsageError, match="seen no codes"):
        ae.sample(1, {}, noise=SeedNoise([0]))
    for batch in z:
        ae.observe_codes(batch)
    assert torch.allclose(ae.code_mean, z.flatten(0, 1).mean(0), atol=1e-12)
    assert torch.allclose(ae.code_cov, torch.cov(z.flatten(0, 1).T, correction=0), atol=1e-12)
    assert int(ae.code_count) == 6


def test_the_law_forgets_what_is_long_past() -> None:
    ae = linear()
    old, new = (BatchNoise(i).draw(torch.empty(200, 64, D, dtype=torch.float64)) for i in (5, 6))
    for batch in (*(old * 9 - 50), *(new * 2 + 1)):
        ae.observe_codes(batch, memory=10)
    assert torch.allclose(ae.code_mean, torch.ones(D).double(), atol=0.3)
    assert torch.allclose(ae.code_cov, 4 * torch.eye(D).double(), atol=0.7)


def test_samples_decode_draws_of_the_law() -> None:
    """Pictures of a linear decoder have mean W m + b and covariance W C W^T, even where a code never changes."""
    ae = linear()
    z = 3 + BatchNoise(7).draw(torch.empty(50, D, dtype=torch.float64)) * torch.tensor([2.0, 1.0, 0.0])
    ae.observe_codes(z)
    x = ae.sample(60_000, {}, noise=BatchNoise(8)).detach().flatten(1)
    w = ae.decoder.get_parameter("layers.0.weight").detach()
    law = w @ ae.code_cov @ w.T
    error = (x.mean(0) - ae.decode(ae.code_mean[None]).detach().flatten()).abs().max()
    assert float(error) < 0.02 * float(law.diagonal().max().sqrt())
    assert float((torch.cov(x.T) - law).abs().max()) < 0.03 * float(law.abs().max())
    two, one = ae.sample(2, {}, noise=SeedNoise([4, 5])), ae.sample(1, {}, noise=SeedNoise([5]))
    assert torch.allclose(two[1:], one, rtol=1e-14, atol=1e-14)  # products of one row and of two round differently


@pytest.mark.parametrize("side", [4, 9, 28])
def test_every_parameter_learns_and_the_law_follows_the_training(side: int) -> None:
    shape = (1, side, side)
    conv = ConvEncoder(shape, 3, (8, 8), moments=1), ConvDecoder(shape, 3, (8, 8))
    mlp = MLPEncoder(shape, 3, (16,), moments=1), MLPDecoder(shape, 3, (16,))
    kinds: list[tuple[nn.Module, nn.Module, PixelError]] = [
        (*conv, CrossEntropy()),
        (*mlp, SquaredError(logistic=True)),
    ]
    for encoder, decoder, pixels in kinds:
        ae = Autoencoder(encoder, decoder, pixels, 3)
        assert isinstance(ae, Encodes) and isinstance(ae, Decodes) and isinstance(ae, Generative)
        objective, batch = Reconstruction(ae), {"image": torch.rand(4, *shape) * 2 - 1}
        objective.loss(batch, 0, RNG)["reconstruction"].backward()
        assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in ae.parameters())
        for step in range(10):
            (turn,) = objective.turns(step)
            assert isinstance(turn, Turn)
            objective.after(turn, step, params={}, batch=batch, reduce=lambda told: told)
        assert int(ae.code_count) == 2
        assert torch.allclose(ae.code_mean, ae.encode(batch["image"]).mean(0), atol=1e-6)
        assert isinstance(ae.state_dict()["code_cov"], Tensor) and isinstance(ae.encoder, nn.Module)
        assert ae.sample(2, {}, noise=SeedNoise([0, 1])).shape == (2, *shape)
