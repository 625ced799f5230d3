"""Autoencoders equal pythae's on the same weights and noise; public weights reproduce what their own code gave."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import huggingvis as hv
import huggingvis.systems
from huggingvis.checkpoints.inspect import families_in, identify, inspect
from huggingvis.checkpoints.io import load, save
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.media import Picture
from huggingvis.core.noise import SeedNoise
from huggingvis.core.request import Canvas, Request
from huggingvis.edits.generate import generate
from huggingvis.nets.mlp_vae import MLPDecoder, MLPEncoder
from huggingvis.objectives.autoencoder import Autoencoder, Reconstruction, SquaredError
from huggingvis.objectives.vae import VAE, Bernoulli, Gaussian, ImportanceWeighted, Likelihood, NegativeELBO
from huggingvis.systems import cifar10_autoencoder, mnist_vae

DATA = os.environ.get("HUGGINGVIS_TESTDATA")
real = pytest.mark.skipif(not DATA, reason="HUGGINGVIS_TESTDATA is not set: the real weights are not at hand")
ROOT = Path(DATA or ".")
MNIST = ROOT / "weights/mnist_vae/vae_epoch_25.pth"
CIFAR = ROOT / "weights/cifar10_autoencoder/cifar10_ae_128.safetensors"
SHAPE, D = (1, 4, 5), 3


# ---- pythae ----------------------------------------------------------------------------------------------------------


class Unit(nn.Module):
    """Ours shown pictures in [0, 1], as pythae's networks are."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x + 1) / 2)


def numbers_of(theirs: nn.Module, ours: nn.Module) -> None:
    """Their weights into ours, layer by layer; heads of an encoder (mean, log-variance) are one layer here."""
    stored = list(theirs.state_dict().values())
    mine = list(ours.parameters())
    if len(stored) > len(mine):
        *stored, mean, mean_bias, logvar, logvar_bias = stored
        stored += [torch.cat([mean, logvar]), torch.cat([mean_bias, logvar_bias])]
    with torch.no_grad():
        for a, b in zip(mine, stored, strict=True):
            a.copy_(b)


def pair(kind: str, loss: str, **numbers: Any) -> tuple[Any, nn.Module, nn.Module]:
    """pythae's model (which has no types), and encoder and decoder of ours with its weights."""
    from pythae import models

    torch.manual_seed(0)
    config = getattr(models, f"{kind}Config")
    asked = {"reconstruction_loss": loss} if kind != "AE" else {}
    theirs = getattr(models, kind)(config(input_dim=SHAPE, latent_dim=D, **asked, **numbers)).double()
    encoder = MLPEncoder(SHAPE, D, (512,), moments=1 if kind == "AE" else 2, act=nn.ReLU).double()
    decoder = MLPDecoder(SHAPE, D, (512,), act=nn.ReLU).double()
    numbers_of(theirs.encoder, encoder)
    numbers_of(theirs.decoder, decoder)
    return theirs, Unit(encoder), decoder


def pictures() -> Tensor:
    return torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1


def test_the_autoencoder_is_pythaes() -> None:
    theirs, encoder, decoder = pair("AE", "mse")
    x = pictures()
    told = theirs({"data": (x + 1) / 2})
    ours = Autoencoder(encoder, decoder, SquaredError(logistic=True), D)
    assert torch.allclose(ours.encode(x), told.z, atol=1e-12)
    assert torch.allclose(ours.decode(ours.encode(x)), 2 * told.recon_x - 1, atol=1e-12)
    assert float(Reconstruction(ours).loss({"image": x}, 0, torch.Generator())["_squared_error"]) == pytest.approx(
        float(told.loss.detach()), rel=1e-12
    )


class HalfMean(nn.Module):
    """Their decoder's sigmoid on top of ours, in our range."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, z: Tensor) -> Tensor:
        return 2 * self.net(z).sigmoid() - 1


@pytest.mark.parametrize("loss", ["bce", "mse"])
def test_the_bound_is_pythaes(loss: str) -> None:
    """Their squared error is the Gaussian of deviation 1 in [0, 1], 2 in ours, up to its constant."""
    theirs, encoder, decoder = pair("VAE", loss)
    x = pictures()
    likelihood: Likelihood = Bernoulli() if loss == "bce" else Gaussian(2.0)
    vae = VAE(encoder, decoder if loss == "bce" else HalfMean(decoder), likelihood, D)
    ours = NegativeELBO(vae).loss({"image": x}, 0, torch.Generator().manual_seed(3))
    q = vae.posterior(x)
    z = q.draw(torch.randn(q.mean.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64))
    unit = (x + 1) / 2
    told = theirs.encoder(unit)
    assert torch.allclose(q.mean, told.embedding, atol=1e-12) and torch.allclose(q.logvar, told.log_covariance)
    _, reconstruction, kl = theirs.loss_function(theirs.decoder(z).reconstruction, unit, q.mean, q.logvar, z)
    constant = 20 * (np.log(2.0) + 0.5 * np.log(2 * np.pi)) if loss == "mse" else 0.0
    assert float(ours["reconstruction"].detach()) == pytest.approx(float(reconstruction.detach()) + constant, rel=1e-10)
    assert float(ours["kl"].detach()) == pytest.approx(float(kl.detach()), rel=1e-10)


def test_the_importance_weighted_gradient_is_pythaes() -> None:
    """Its loss is the weighted sum whose gradient is that of the bound; its gradients are ours."""
    k = 5
    theirs, encoder, decoder = pair("IWAE", "bce", number_samples=k)
    x = pictures()
    vae = VAE(encoder, decoder, Bernoulli(), D)
    ours = ImportanceWeighted(vae, k).loss({"image": x}, 0, torch.Generator().manual_seed(3))
    ours["bound"].backward()
    eps = torch.randn((k * 6, D), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    unit = (x + 1) / 2
    told = theirs.encoder(unit)
    mean, logvar = (part[:, None].repeat(1, k, 1) for part in (told.embedding, told.log_covariance))
    z = mean + (logvar / 2).exp() * eps.unflatten(0, (k, 6)).transpose(0, 1)  # [B, K, D]
    again = theirs.decoder(z.flatten(0, 1)).reconstruction.reshape(6, k, -1)
    theirs.loss_function(again, unit, mean, logvar, z)[0].backward()
    want = [p.grad for p in theirs.decoder.parameters()]
    found = [p.grad for p in decoder.parameters()]
    assert all(a is not None and b is not None and torch.allclose(a, b, atol=1e-10) for a, b in zip(want, found))


# ---- public weights --------------------------------------------------------------------------------------------------


def expected(name: str) -> dict[str, Tensor]:
    with np.load(ROOT / "weights" / name) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def digits(first: int, last: int) -> Tensor:
    """MNIST training images, [n, 1, 28, 28] in [-1, 1]."""
    with gzip.open(ROOT / "images/mnist/train-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(16 + 784 * last), np.uint8, offset=16 + 784 * first)
    return torch.from_numpy(pixels.reshape(-1, 1, 28, 28).copy()) / 127.5 - 1


def gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


@real
@torch.no_grad()
def test_the_mnist_vae_is_its_own_code() -> None:
    want = expected("mnist_vae/expected_first16_train.npz")
    vae = mnist_vae.autoencoder(MNIST)
    q = vae.posterior(digits(0, 16))
    assert gap(q.mean, want["mu"]) < 1e-5 and gap(q.logvar, want["logvar"]) < 1e-5
    assert gap(vae.decode(want["mu"]), 2 * want["recon_from_mu"].unflatten(1, (1, 28, 28)) - 1) < 1e-5


@real
@torch.no_grad()
def test_the_mnist_vae_has_its_recorded_bound() -> None:
    """77.5 + 25.8 nats on the official test pictures; these are training ones, which it knows no better."""
    vae = mnist_vae.autoencoder(MNIST)
    told = NegativeELBO(vae).loss({"image": digits(50_000, 52_000)}, 0, torch.Generator().manual_seed(0))
    assert float(told["reconstruction"]) == pytest.approx(77.5, abs=2.0)
    assert float(told["kl"]) == pytest.approx(25.8, abs=0.5)
    assert float(told["_active"]) > 0.5
    few = digits(50_000, 50_100)
    bounds = [float(vae.log_prob(few, draws=k).mean()) for k in (1, 20)]
    assert bounds[1] > bounds[0] + 2


@real
def test_the_mnist_vae_generates() -> None:
    system = mnist_vae.bind(MNIST)
    pictures = np.stack([p.pixels for p in generate(system, Request(canvas=Canvas(count=16)))])
    assert pictures.shape == (16, 28, 28, 1) and pictures.min() < 5 and pictures.max() > 230
    ink = (pictures > 128).mean((1, 2, 3))
    assert (ink > 0.03).all() and (ink < 0.3).all()  # as digits have, and noise has not


@real
def test_the_mnist_vae_is_explored_in_grey() -> None:
    system = mnist_vae.bind(MNIST)
    given = [Picture.from_signal(x) for x in digits(0, 3).numpy()]
    sheet, found = hv.explore("reconstruct", system, [*given, Picture(np.repeat(given[0].pixels, 3, axis=2))])
    assert [p.pixels.shape for p in found.tiles.pictures] == [(28, 28, 1)] * 8 and sheet.pixels.ndim == 3
    decibels = found.record["psnr_db"]
    assert min(decibels) > 12 and decibels[3] == pytest.approx(
        decibels[0], abs=0.1
    )  # a grey picture in RGB is the same
    assert system.spec.channels == 1 and system.spec.size == (28, 28)
    with pytest.raises(UsageError, match="28 x 28 pixels and no other"):
        generate(system, Request(canvas=Canvas(width=56)))


@real
@torch.no_grad()
def test_the_cifar_autoencoder_is_its_own_code() -> None:
    want = expected("cifar10_autoencoder/expected_ae_128_first4.npz")
    with np.load(ROOT / "images/cifar10/cifar10_train_first4000.npz") as file:
        x = torch.from_numpy(file["images"][:256]).permute(0, 3, 1, 2) / 127.5 - 1
    ae = cifar10_autoencoder.autoencoder(CIFAR)
    z = ae.encode(x)
    assert gap(z[:4], want["latent"]) < 1e-5 and gap(ae.decode(want["latent"]), want["recon"]) < 1e-5
    per_value = float((x - ae.decode(z)).square().mean())
    shuffled = float((x - ae.decode(z.flip(0))).square().mean())
    assert per_value < 0.03 < 0.2 < shuffled
    with pytest.raises(UsageError, match="seen no codes"):
        ae.sample(1, {}, noise=SeedNoise([0]))
    ae.observe_codes(z)
    drawn = ae.sample(256, {}, noise=SeedNoise(range(256)))
    assert drawn.shape == x.shape and gap(drawn.mean((0, 2, 3)), x.mean((0, 2, 3))) < 0.15


@real
@torch.no_grad()
def test_the_cifar_system_reconstructs_in_colour_and_draws_once_it_has_seen_codes() -> None:
    system = cifar10_autoencoder.bind(CIFAR)
    with np.load(ROOT / "images/cifar10/cifar10_train_first4000.npz") as file:
        pictures = [Picture(pixels) for pixels in file["images"][:64]]
    _, found = hv.explore("reconstruct", system, pictures)
    assert {p.pixels.shape for p in found.tiles.pictures} == {(32, 32, system.spec.channels)}
    assert system.spec.channels == 3 and np.mean(found.record["psnr_db"]) > 20
    with pytest.raises(UsageError, match="seen no codes"):
        generate(system, Request())
    model = system.generator(Request())
    assert isinstance(model, Autoencoder)
    model.observe_codes(model.encode(torch.stack([torch.from_numpy(p.to_signal()) for p in pictures])))
    assert generate(system, Request())[0].pixels.shape == (32, 32, 3)


@real
def test_real_files_go_out_as_they_came_in(tmp_path: Path) -> None:
    for system, path in ((mnist_vae, MNIST), (cifar10_autoencoder, CIFAR)):
        tensors = load(path)
        ours, left = system.encoder_map().take(tensors)
        rest = system.decoder_map().to_ours(left)
        back = {**system.encoder_map().to_theirs(ours), **system.decoder_map().to_theirs(rest)}
        stored = load(save(tmp_path / "x.safetensors", back))
        assert stored.keys() == tensors.keys() and all(stored[k].equal(tensors[k]) for k in stored)


@real
def test_files_are_recognised_and_not_mistaken() -> None:
    families = families_in(huggingvis.systems)
    for path, name in ((MNIST, "mnist_vae"), (CIFAR, "cifar10_autoencoder")):
        family = identify(inspect(path).tensors, families)
        assert family is not None and family.name == name
    for bind, wrong in ((mnist_vae.bind, CIFAR), (cifar10_autoencoder.bind, MNIST)):
        with pytest.raises(FileProblem):
            bind(wrong)
