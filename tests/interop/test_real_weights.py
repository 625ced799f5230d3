"""Public weights, trained by others, reproduce the outputs that their own code gave."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import huggingvis.systems
from huggingvis.checkpoints.inspect import families_in, identify, inspect
from huggingvis.checkpoints.io import assign, load, save
from huggingvis.checkpoints.keymap import KeyMap
from huggingvis.core.belief import Gaussian
from huggingvis.core.diffusion import Diffusion
from huggingvis.core.errors import FileProblem
from huggingvis.core.noise import SeedNoise
from huggingvis.core.request import Request, Sampling
from huggingvis.core.system import System
from huggingvis.nets.isotropic_conv import IsotropicConv
from huggingvis.nets.tiny_autoencoder import TinyAutoencoder, TinyAutoencoderConfig
from huggingvis.processes.table import TableProcess
from huggingvis.systems import ddpm_mnist, taef2
from huggingvis.systems.judges import digits

DATA = os.environ.get("HUGGINGVIS_TESTDATA")
pytestmark = pytest.mark.skipif(not DATA, reason="HUGGINGVIS_TESTDATA is not set: the real weights are not at hand")
WEIGHTS = Path(DATA or ".") / "weights"

ENCODER, DECODER = WEIGHTS / "taef2/taef2_encoder.pth", WEIGHTS / "taef2/taef2_decoder.pth"
LENET = WEIGHTS / "mnist_classifier/lenet_epoch=12_test_acc=0.991.pth"
DDPM = WEIGHTS / "ddpm_mnist/ddpm_mnist_starter.pth"


def expected(name: str) -> dict[str, Tensor]:
    with np.load(WEIGHTS / name) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def first_digits(n: int) -> Tensor:
    """The first MNIST training images, [n, 1, 28, 28] in [-1, 1]."""
    with gzip.open(WEIGHTS.parent / "images/mnist/train-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(16 + 784 * n), np.uint8, offset=16)
    return torch.from_numpy(pixels.reshape(n, 1, 28, 28).copy()) / 127.5 - 1


def gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


@torch.no_grad()
def test_taef2_encodes_and_decodes_like_its_own_code() -> None:
    want = expected("taef2/expected_taef2_chelsea_128.npz")
    picture = want["image_uint8_hwc"].permute(2, 0, 1)[None] / 127.5 - 1  # [1, 3, 128, 128]
    net = taef2.bind(ENCODER, DECODER)
    z = net.encode(picture)
    assert gap(z[0], want["latent"]) < 1e-5 and gap(net.decode(want["latent"][None])[0], want["recon"] * 2 - 1) < 1e-5
    mse = float((net.decode(z).clamp(-1, 1) - picture).square().mean()) / 4  # in units of [0, 1]
    assert -10 * np.log10(mse) > 29.0
    assert sum(p.numel() for p in net.encoder.parameters()) == sum(t.numel() for t in load(ENCODER).values())


@torch.no_grad()
def test_taef2_runs_in_the_precision_it_is_stored_in() -> None:
    want = expected("taef2/expected_taef2_chelsea_128.npz")
    net = taef2.bind(ENCODER, DECODER, dtype=torch.bfloat16)
    out = net.decode(want["latent"][None, :, :8, :8].bfloat16())
    near = taef2.bind(ENCODER, DECODER).decode(want["latent"][None, :, :8, :8])
    assert out.dtype == torch.bfloat16 and float((out.float() - near).square().mean().sqrt()) < 0.02


@torch.no_grad()
def test_lenet_reads_digits_like_its_own_code() -> None:
    with np.load(WEIGHTS / "mnist_classifier/expected_first16_train_pad2.npz") as file:
        want = torch.from_numpy(file["log_probs"])
    judge = digits.bind(LENET, fit=digits.pad_to_32)
    assert gap(judge.log_probs(first_digits(16)), want) < 1e-4  # values reach -43
    resized = digits.bind(LENET)
    assert resized.log_probs(first_digits(16)).argmax(1).equal(want.argmax(1))
    assert resized.features(first_digits(16)).shape == (16, 84)


def ddpm(steps: int = 50) -> tuple[System, Diffusion]:
    system = ddpm_mnist.bind(DDPM)
    model = system.generator(Request(sampling=Sampling(sampler="ddim", schedule="trailing", steps=steps)))
    assert isinstance(model, Diffusion)
    return system, model


@torch.no_grad()
def test_ddpm_predicts_noise_like_its_own_code() -> None:
    want = expected("ddpm_mnist/expected_ddpm_mnist_starter.npz")
    system, model = ddpm()
    assert want["t"].tolist() == [10, 100, 500, 1000]
    out = system.parts["net"](want["x_t"], want["t"].float(), {})
    assert gap(out, want["eps_pred"]) < 2e-5
    t = (want["t"].double() + 1) / 1001
    assert gap(model.process.add_noise(want["x0"], want["noise"], t), want["x_t"]) < 1e-6
    belief = model.denoise(want["x_t"].double(), t, {})
    assert isinstance(belief, Gaussian)
    assert gap(model.process.eps(want["x_t"].double(), belief.x0, t), want["eps_pred"].double()) < 2e-5


def test_ddpm_table_is_the_papers() -> None:
    process = ddpm()[1].process
    assert isinstance(process, TableProcess)
    bar, stored = process.alphas_cumprod, load(DDPM)
    assert bar.equal(stored["alpha_t"].double()) and len(bar) == 1001
    beta = 1e-4 + (0.02 - 1e-4) * torch.arange(1001, dtype=torch.float64) / 1000
    assert gap(beta, stored["beta_t"].double()) < 1e-8
    assert float((torch.cumprod(1 - beta, 0) / bar - 1).abs().max()) < 1e-6


def test_the_stored_frequencies_are_the_formula() -> None:
    built = IsotropicConv(ddpm_mnist.CONFIG).time.frequencies
    stored = load(DDPM)["gt.frequencies"]
    assert float((built - stored).abs().max()) < 1e-3 and float(stored.max()) > 1834


@torch.no_grad()
def test_ddim_on_real_weights_makes_digits_that_the_judge_believes() -> None:
    (system, model), judge = ddpm(50), digits.bind(LENET)
    z = model.sample(16, system.conditioner([]), noise=SeedNoise(range(16)))
    pictures = system.codec.decode(z).clamp(-1, 1)
    confidence = float(judge.confidence(pictures).mean())
    noise = float(judge.confidence(torch.randn(16, 1, 28, 28, generator=torch.Generator().manual_seed(0))).mean())
    assert confidence > 0.75 > noise + 0.15, (confidence, noise)
    assert judge.log_probs(pictures).argmax(1).unique().numel() >= 6


@pytest.mark.parametrize(
    ("keymap", "path"),
    [
        (taef2.encoder_map(taef2.CONFIG), ENCODER),
        (taef2.decoder_map(taef2.CONFIG), DECODER),
        (digits.keymap(), LENET),
        (ddpm_mnist.keymap(), DDPM),
    ],
    ids=["taef2 encoder", "taef2 decoder", "lenet", "ddpm"],
)
def test_real_files_go_out_as_they_came_in(keymap: KeyMap, path: Path, tmp_path: Path) -> None:
    tensors = load(path)
    ours, left = keymap.take(tensors)
    assert set(left) == ({"alpha_t", "beta_t"} if path == DDPM else set())
    back = load(save(tmp_path / "x.safetensors", keymap.to_theirs(ours)))
    assert back.keys() == tensors.keys() - left.keys()
    assert all(back[k].equal(tensors[k]) and back[k].dtype == tensors[k].dtype for k in back)


def test_files_are_recognised_and_not_mistaken() -> None:
    families = families_in(huggingvis.systems)
    for path, name in ((ENCODER, "taef2"), (LENET, "digits judge"), (DDPM, "ddpm_mnist")):
        family = identify(inspect(path).tensors, families)
        assert family is not None and family.name == name
    for bind in (digits.bind, ddpm_mnist.bind, lambda path: taef2.bind(path, DECODER)):
        with pytest.raises(FileProblem):
            bind(WEIGHTS / "mnist_vae/vae_epoch_25.pth")


def test_another_autoencoder_of_the_family_fits_by_its_numbers() -> None:
    """The classic sizes (4 channels, no bottleneck) are one line of config; names follow."""
    config = TinyAutoencoderConfig()
    net = TinyAutoencoder(config)
    theirs = taef2.decoder_map(config).to_theirs(net.decoder.state_dict())
    assert (
        theirs["1.weight"].shape == (64, 4, 3, 3)
        and theirs["19.bias"].shape == (3,)
        and "3.pool.0.weight" not in theirs
    )
    assign(net.decoder, taef2.decoder_map(config).to_ours(theirs))
    assert net.decode(net.encode(torch.zeros(1, 3, 16, 24))).shape == (1, 3, 16, 24)
