"""Generators and critics of the papers: layers, counts of parameters, starts, any size."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from huggingvis.core.errors import UsageError
from huggingvis.core.noise import BatchNoise, SeedNoise
from huggingvis.core.protocols import Decodes, Generative
from huggingvis.nets.cgan import CGANCritic, CGANGenerator, CGANSizes
from huggingvis.nets.dcgan import DCGANCritic, DCGANGenerator
from huggingvis.nets.mlp_gan import Maxout, MaxoutCritic, MLPGenerator
from huggingvis.objectives.adversarial import (
    GradientPenalty,
    Wasserstein,
)
from huggingvis.objectives.gan import GAN, uniform


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_dcgan_is_the_papers() -> None:
    """Fig. 1: 100 -> 1024x4x4 -> 512x8x8 -> 256x16x16 -> 128x32x32 -> 3x64x64 by 5x5 kernels of stride 2."""
    with torch.device("meta"):
        generator, critic = DCGANGenerator((3, 64, 64)), DCGANCritic((3, 64, 64))
        shapes: list[tuple[int, ...]] = []
        for norm in generator.norms:
            norm.register_forward_hook(lambda net, args, out: shapes.append(tuple(out.shape[1:])))
        out = generator(torch.empty(2, 100), {})
        maps = [tuple(m.shape[1:]) for m in critic.maps(torch.empty(2, 3, 64, 64))]
    assert shapes == [(1024, 4, 4), (512, 8, 8), (256, 16, 16), (128, 32, 32)] and out.shape == (2, 3, 64, 64)
    assert maps == [(128, 32, 32), (256, 16, 16), (512, 8, 8), (1024, 4, 4)]
    kernels = [(1024, 512), (512, 256), (256, 128), (128, 3)]
    assert [tuple(c.get_parameter("weight").shape) for c in generator.convs] == [(a, b, 5, 5) for a, b in kernels]
    norms = 2 * (1024 + 512 + 256 + 128)
    assert count(generator) == 100 * 16 * 1024 + 25 * sum(a * b for a, b in kernels) + norms + 3 == 18_855_043
    kernels = [(3, 128), (128, 256), (256, 512), (512, 1024)]
    norms, last = 2 * (256 + 512 + 1024), 16 * 1024 + 1
    assert count(critic) == 25 * sum(a * b for a, b in kernels) + 128 + norms + last == 17_232_897
    assert not any(isinstance(m, nn.BatchNorm2d) for m in critic.norms[:1])  # not at the critic's input


def test_dcgan_starts_as_the_paper_says_and_makes_the_same_from_the_same_noise() -> None:
    torch.manual_seed(0)
    net = DCGANGenerator((1, 28, 28), width=16)
    assert net.sizes == [(4, 4), (7, 7), (14, 14), (28, 28)] and net.grid == (64, 4, 4)
    assert float(net.convs[0].get_parameter("weight").detach().std()) == pytest.approx(0.02, rel=0.03)
    gan = GAN(net, 100, uniform).eval()
    four = gan.sample(4, {}, noise=SeedNoise(range(4)))
    assert four.equal(gan.sample(4, {}, noise=SeedNoise(range(4))))
    assert torch.allclose(gan.sample(1, {}, noise=SeedNoise([2])), four[2:3], atol=1e-6)


@pytest.mark.parametrize("side", [4, 5, 9, 28])
def test_convolutions_of_any_size(side: int) -> None:
    shape = (3, side, side)
    gan, critic = GAN(DCGANGenerator(shape, 5, 4), 5), DCGANCritic(shape, 4)
    assert gan.sample(2, {}, noise=BatchNoise(0)).shape == (2, *shape) and critic(torch.zeros(2, *shape), {}).shape == (
        2,
    )


def test_multilayer_perceptrons_are_the_authors() -> None:
    """784 pixels: rectifiers of 1200 and 1200, maxout units of 240 and 240 with 5 pieces each; CGAN's Sec. 4.1."""
    shape = (1, 28, 28)
    assert count(MLPGenerator(shape, 100)) == 101 * 1200 + 1201 * 1200 + 1201 * 784
    assert count(MaxoutCritic(shape)) == 785 * 1200 + 241 * 1200 + 241
    assert count(CGANGenerator(shape, 100, 10)) == 101 * 200 + 11 * 1000 + 1201 * 1200 + 1201 * 784
    assert count(CGANCritic(shape, 10)) == 785 * 1200 + 11 * 250 + 291 * 960 + 241
    critic = MaxoutCritic((1, 2, 2), (3,), pieces=2, dropout=(0.0, 0.0))
    x = torch.randn(6, 1, 2, 2, generator=seeded())
    maxout, last = critic.layers[2], critic.layers[4]
    assert isinstance(maxout, Maxout) and isinstance(last, nn.Linear)
    linear = maxout.linear
    pieces = (x.flatten(1) @ linear.weight.T + linear.bias).reshape(6, 3, 2)
    hidden = torch.maximum(pieces[..., 0], pieces[..., 1])
    assert torch.allclose(critic(x, {}), hidden @ last.weight[0] + last.bias, atol=1e-6)


def test_models_have_the_capabilities_that_verbs_look_for() -> None:
    gan = GAN(MLPGenerator((1, 4, 4), 3, (8,)), 3)
    assert isinstance(gan, Generative) and isinstance(gan, Decodes)
    assert gan.decode(gan.latents(2, {}, noise=SeedNoise([0, 1]))).equal(gan.sample(2, {}, noise=SeedNoise([0, 1])))


def test_the_wasserstein_game_asks_for_its_penalty() -> None:
    from huggingvis.recipes.adversarial.gan import Config

    with pytest.raises(UsageError, match="--penalty GradientPenalty"):
        Config(game=Wasserstein())
    rules = Config(game=Wasserstein(), penalty=GradientPenalty()).rules()
    assert rules.penalty == GradientPenalty()


@torch.no_grad()
def test_coins_in_z_drop_units_as_dropout_does() -> None:
    """Half of the units of each layer, the others doubled; the same z, the same picture, whatever the mode."""
    net = CGANGenerator((1, 4, 4), 3, 5, CGANSizes(noise=40, label=60, joint=200))
    assert net.latents == 3 + 100 + 200
    z = 2 * torch.rand(500, net.latents, generator=seeded()) - 1
    cond = {"vector": torch.eye(5)[torch.zeros(500, dtype=torch.int64)]}
    h = torch.ones(500, 200)
    kept = net._kept(h, z[:, 103:])
    assert set(kept.unique().tolist()) == {0.0, 2.0} and float(kept.mean()) == pytest.approx(1.0, abs=0.02)
    assert torch.equal(net.train()(z, cond), net.eval()(z, cond))
    other = torch.cat([z[:, :3], -z[:, 3:]], dim=1)  # every coin on its other side
    assert float((net(z, cond) - net(other, cond)).abs().mean()) > 0.01
    whole = CGANGenerator((1, 4, 4), 3, 5, CGANSizes(noise=40, label=60, joint=200, dropout=0.0))
    whole.load_state_dict(net.state_dict())
    assert torch.equal(whole(z, cond), whole(other, cond))
