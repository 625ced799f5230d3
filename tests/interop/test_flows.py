"""Flows equal normflows' on the same weights, and the public flow of digits says what its file records."""

from __future__ import annotations

import gzip
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import huggingvis.systems
from huggingvis.checkpoints.inspect import families_in, identify, inspect
from huggingvis.checkpoints.io import load, save
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.noise import SeedNoise
from huggingvis.core.request import Canvas, Request
from huggingvis.nets.flows.bijection import Bijection, Squeeze
from huggingvis.nets.flows.coupling import AffineCoupling, Exp, Halves, Sigmoid
from huggingvis.nets.flows.mixing import GlowStep, InvertibleConv
from huggingvis.nets.flows.networks import CouplingConvs
from huggingvis.nets.flows.pointwise import ActNorm
from huggingvis.objectives.likelihood import log_probability
from huggingvis.systems import mnist_flow

DATA = os.environ.get("HUGGINGVIS_TESTDATA")
FILE = Path(DATA or ".") / "weights/mnist_flow/MNISTFlow_simple.ckpt"
Theirs = Any  # a module of normflows, which has no types
needs_data = pytest.mark.skipif(not DATA, reason="HUGGINGVIS_TESTDATA is not set: the real weights are not at hand")


def away_from_zero(net: Theirs) -> Theirs:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return net.double()


@torch.no_grad()
def copy_net(ours: CouplingConvs, theirs: Theirs) -> None:
    """normflows' three convolutions; it interleaves shifts and scales, and names what takes latents to data."""
    first, _, middle, _, last = theirs.net
    for mine, other in ((ours.first, first), (ours.middle, middle)):
        mine.load_state_dict(other.state_dict())
    order = torch.cat([torch.arange(1, len(last.bias), 2), torch.arange(0, len(last.bias), 2)])
    ours.last.load_state_dict({"weight": last.weight[order], "bias": last.bias[order]})


@torch.no_grad()
def turn_shift(net: CouplingConvs, scale_too: bool) -> None:
    """Theirs takes the shift away, ours adds it; an exponential scale of theirs is one from latents to data."""
    weight, bias = net.last.weight, net.last.bias
    assert bias is not None
    start = 0 if scale_too else len(bias) // 2
    weight[start:] *= -1
    bias[start:] *= -1


@torch.no_grad()
def assert_twins(ours: Bijection, theirs: Theirs, x: Tensor) -> None:
    z, log_det = ours(x)
    want, want_log_det = theirs.inverse(x)
    assert torch.allclose(z, want, atol=1e-10)
    assert torch.allclose(log_det, torch.as_tensor(want_log_det, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(ours.inverse(want), theirs(want)[0], atol=1e-9)


def batch(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_squeeze_is_normflows() -> None:
    from normflows import flows

    assert_twins(Squeeze(), flows.Squeeze(), batch(2, 3, 4, 6))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("law", ["exp", "sigmoid"])
def test_coupling_is_normflows(law: str, flip: bool) -> None:
    import normflows as nf

    net = nf.nets.ConvNet2d((2, 8, 8, 4), (3, 1, 3))
    theirs = away_from_zero(nf.flows.AffineCouplingBlock(net, True, law, "channel_inv" if flip else "channel"))
    inner = CouplingConvs(2, 4, 8).double()
    copy_net(inner, net)
    turn_shift(inner, scale_too=law == "exp")
    ours = AffineCoupling(inner, Halves(flip), Exp() if law == "exp" else Sigmoid())
    assert_twins(ours, theirs, batch(3, 4, 4, 6))


@torch.no_grad()
def actnorm_of(theirs: Theirs) -> ActNorm:
    ours = ActNorm(theirs.s.numel()).double()
    ours.shift.copy_(-theirs.t.flatten())
    ours.log_scale.copy_(-theirs.s.flatten())
    return ours


@torch.no_grad()
def conv_of(theirs: Theirs) -> InvertibleConv:
    ours = InvertibleConv(len(theirs.log_S)).double()
    named = {
        "permutation": theirs.P,
        "sign": theirs.sign_S,
        "lower": theirs.L,
        "upper": theirs.U,
        "log_s": theirs.log_S,
    }
    ours.load_state_dict(named)
    return ours


def test_actnorm_is_normflows_from_the_first_batch_on() -> None:
    import normflows as nf

    x = 3 * batch(16, 4, 5, 5) + 1
    theirs, ours = nf.flows.ActNorm((4, 1, 1)).double(), ActNorm(4).double()
    theirs.inverse(x)
    ours.initialise(x)
    assert torch.allclose(ours.log_scale, -theirs.s.flatten(), atol=2e-3)  # it divides by n - 1, and adds 1e-6
    assert torch.allclose(ours.shift, -theirs.t.flatten(), atol=1e-10)
    assert_twins(actnorm_of(theirs), theirs, x)


def test_convolution_is_normflows() -> None:
    import normflows as nf

    theirs = away_from_zero(nf.flows.Invertible1x1Conv(6, use_lu=True))
    assert_twins(conv_of(theirs), theirs, batch(2, 6, 3, 5))


def test_glow_block_is_normflows() -> None:
    import normflows as nf

    theirs = away_from_zero(nf.flows.GlowBlock(6, 8))
    theirs.flows[2].data_dep_init_done = torch.tensor(1.0)
    inner = CouplingConvs(3, 6, 8).double()
    copy_net(inner, theirs.flows[0].flows[1].param_map)
    turn_shift(inner, scale_too=False)
    ours = GlowStep(6, AffineCoupling(inner, Halves(), Sigmoid()))
    ours.norm, ours.mix = actnorm_of(theirs.flows[2]), conv_of(theirs.flows[1])
    assert_twins(ours, theirs, batch(2, 6, 4, 4))


def digits(n: int) -> Tensor:
    """The first MNIST training images, [n, 1, 28, 28] in [-1, 1]."""
    with gzip.open(FILE.parents[2] / "images/mnist/train-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(16 + 784 * n), np.uint8, offset=16)
    return torch.from_numpy(pixels.reshape(n, 1, 28, 28).copy()) / 127.5 - 1


def bits(alpha: float, x: Tensor) -> float:
    nats = log_probability(mnist_flow.load_flow(FILE, alpha=alpha), x)
    return -float(nats.mean()) / (784 * math.log(2))


@needs_data
def test_public_flow_says_its_recorded_bits_whatever_the_margin_of_its_logits() -> None:
    """The file records 1.0784 on the test digits; 48 of the training digits, with one draw, tell it to about 0.05."""
    recorded = torch.load(FILE, map_location="cpu", weights_only=True)["result"]["test"][0]["test_bpd"]
    x = digits(48)
    found = bits(mnist_flow.ALPHA, x)
    assert found == pytest.approx(recorded, abs=0.08)
    assert bits(mnist_flow.ALPHA / 10, x) == pytest.approx(found, abs=0.01)


@needs_data
@torch.no_grad()
def test_public_flow_goes_back_and_draws_digits() -> None:
    flow = mnist_flow.load_flow(FILE, dtype=torch.float64)
    x = digits(2).double() * 0.99
    assert float((flow.decode(flow.encode(x)) - x).abs().max()) < 1e-9
    system = mnist_flow.bind(FILE)
    pictures = system.generator(Request()).sample(2, {}, noise=SeedNoise([0, 1]))
    assert pictures.shape == (2, system.spec.channels, 28, 28)
    assert system.spec.channels == 1 and 0.6 < float((pictures < -0.5).float().mean()) < 0.95
    with pytest.raises(UsageError, match="28 x 28 pixels and no other, but 56 x 28"):
        system.generator(Request(canvas=Canvas(width=56)))


@needs_data
def test_public_flow_goes_out_as_it_came_in(tmp_path: Path) -> None:
    tensors = load(FILE)
    back = load(save(tmp_path / "x.safetensors", mnist_flow.keymap().to_theirs(mnist_flow.keymap().to_ours(tensors))))
    assert back.keys() == tensors.keys() and all(torch.equal(back[key], tensors[key]) for key in tensors)


@needs_data
def test_public_flow_is_recognised_and_others_are_refused() -> None:
    family = identify(inspect(FILE).tensors, families_in(huggingvis.systems))
    assert family is not None and family.name == "mnist_flow"
    with pytest.raises(FileProblem):
        mnist_flow.bind(FILE.parents[1] / "mnist_vae/vae_epoch_25.pth")
