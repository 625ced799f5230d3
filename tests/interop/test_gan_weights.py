"""A public GAN, trained by others, reproduces the pictures that its own code gave."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import huggingvis.systems
from huggingvis.checkpoints.inspect import families_in, identify, inspect
from huggingvis.checkpoints.io import load, save
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.noise import SeedNoise
from huggingvis.core.request import Canvas, Request
from huggingvis.edits.generate import generate
from huggingvis.objectives.gan import GAN
from huggingvis.objectives.mode_collapse import effective_rank, spread
from huggingvis.systems import gan_mnist
from huggingvis.systems.judges import digits

DATA = os.environ.get("HUGGINGVIS_TESTDATA")
pytestmark = pytest.mark.skipif(not DATA, reason="HUGGINGVIS_TESTDATA is not set: the real weights are not at hand")
WEIGHTS = Path(DATA or ".") / "weights"
GENERATOR, CRITIC = WEIGHTS / "mnist_gan_mlp/G--300.ckpt", WEIGHTS / "mnist_gan_mlp/D--300.ckpt"


def real_digits(n: int) -> Tensor:
    with gzip.open(WEIGHTS.parent / "images/mnist/train-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(16 + 784 * n), np.uint8, offset=16)
    return torch.from_numpy(pixels.reshape(n, 1, 28, 28).copy()) / 127.5 - 1


def bound() -> GAN:
    model = gan_mnist.bind(GENERATOR).generator(Request())
    assert isinstance(model, GAN)
    return model


@torch.no_grad()
def test_the_generator_draws_like_its_own_code() -> None:
    with np.load(WEIGHTS / "mnist_gan_mlp/expected_16.npz") as file:
        z, want = (torch.from_numpy(file[key]) for key in ("z", "images"))
    assert float((bound().decode(z) - want).abs().max()) < 1e-5
    (picture,) = generate(gan_mnist.bind(GENERATOR), Request())
    assert picture.pixels.shape == (28, 28, gan_mnist.bind(GENERATOR).spec.channels) == (28, 28, 1)
    with pytest.raises(UsageError, match="28 x 28 pixels and no other, but 56 x 56"):
        generate(gan_mnist.bind(GENERATOR), Request(canvas=Canvas(width=56, height=56)))


@torch.no_grad()
def test_the_critic_is_the_stored_list_of_layers() -> None:
    stored, x = load(CRITIC), real_digits(32)
    h = x.flatten(1)
    for i in (0, 2):
        h = F.leaky_relu(F.linear(h, stored[f"{i}.weight"], stored[f"{i}.bias"]), 0.2)
    want = F.linear(h, stored["4.weight"], stored["4.bias"])[:, 0]
    critic = gan_mnist.bind_critic(CRITIC)
    assert torch.allclose(critic(x, {}), want, atol=1e-4)
    made = bound().sample(32, {}, noise=SeedNoise(range(32)))
    noise = torch.randn(32, 1, 28, 28, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    assert float(critic(x, {}).mean()) > float(critic(noise, {}).mean())  # it knows digits from noise
    assert float(critic(x, {}).mean()) > float(critic(made, {}).mean())


@torch.no_grad()
def test_its_digits_convince_and_its_ones_are_too_many() -> None:
    made, real = bound().sample(400, {}, noise=SeedNoise(range(400))), real_digits(400)
    judge = digits.bind(WEIGHTS / "mnist_classifier/lenet_epoch=12_test_acc=0.991.pth")
    votes = torch.bincount(judge.log_probs(made).argmax(1), minlength=10) / 400
    assert float(judge.confidence(made).mean()) > 0.93 and float(votes[1]) > 0.2 and int((votes > 0).sum()) == 10
    assert 0.6 < float(spread(made, real, {})) < 1.1  # no total collapse
    assert 0.3 < float(effective_rank(made, real, {})) < 0.95  # but less variety than in real digits


def test_files_go_out_as_they_came_in_and_are_recognised(tmp_path: Path) -> None:
    for keymap, path in ((gan_mnist.generator_map(), GENERATOR), (gan_mnist.critic_map(), CRITIC)):
        tensors = load(path)
        back = load(save(tmp_path / "x.safetensors", keymap.to_theirs(keymap.to_ours(tensors))))
        assert back.keys() == tensors.keys() and all(back[k].equal(tensors[k]) for k in back)
    family = identify(inspect(GENERATOR).tensors, families_in(huggingvis.systems))
    assert family is not None and family.name == "gan_mnist"
    for wrong in (gan_mnist.bind, gan_mnist.bind_critic):
        with pytest.raises(FileProblem):
            wrong(WEIGHTS / "mnist_vae/vae_epoch_25.pth")
    with pytest.raises(FileProblem):
        gan_mnist.bind(CRITIC)
