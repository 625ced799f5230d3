"""Growing nets: fading is exact at both ends, layers are scaled as the paper says, growth follows from the step."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from huggingvis.core.errors import UsageError
from huggingvis.core.noise import SeedNoise
from huggingvis.nets.equalised import EqualConv2d, EqualLinear
from huggingvis.nets.pggan import (
    SQRT2,
    Growth,
    ProgressiveCritic,
    ProgressiveGenerator,
    minibatch_deviation,
    pixel_norm,
    stages_of,
    upsampled,
)
from huggingvis.objectives.adversarial import GradientPenalty, Wasserstein
from huggingvis.objectives.gan import Rules
from huggingvis.objectives.progressive import Growing, ProgressiveTraining, faded

SHAPE, WIDTHS, D = (3, 16, 16), (8, 6, 4), 5


def generator() -> ProgressiveGenerator:
    torch.manual_seed(0)
    return ProgressiveGenerator(SHAPE, WIDTHS, D)


def critic() -> ProgressiveCritic:
    torch.manual_seed(1)
    return ProgressiveCritic(SHAPE, WIDTHS)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_fading_begins_at_the_coarse_picture_and_ends_at_the_fine_one() -> None:
    """Fig. 2, bit for bit: alpha 0 is the previous stage enlarged, alpha 1 the new stage, and between them a line."""
    net, z = generator(), drawn(4, D)
    for stage in (1, 2):
        coarse, fine = upsampled(net(z, Growth(stage - 1))), net(z, Growth(stage))
        assert net(z, Growth(stage, 0.0)).equal(coarse) and not coarse.equal(fine)
        assert net(z, Growth(stage, 1.0)).equal(fine)
        assert torch.lerp(coarse, fine, 1.0).equal(fine)  # so nothing jumps when alpha reaches 1
        assert torch.allclose(net(z, Growth(stage, 0.25)), 0.75 * coarse + 0.25 * fine, atol=1e-6)
        assert fine.shape == (4, 3, 4 * 2**stage, 4 * 2**stage)


@torch.no_grad()
def test_the_critic_fades_alike() -> None:
    net = critic()
    for stage in (1, 2):
        x = drawn(4, 3, 4 * 2**stage, 4 * 2**stage, seed=stage)
        assert net(x, Growth(stage, 0.0)).equal(net(F.avg_pool2d(x, 2), Growth(stage - 1)))
        assert not net(x, Growth(stage, 1.0)).equal(net(x, Growth(stage, 0.0)))
        near = net(x, Growth(stage, 1 - 1e-6))
        assert torch.allclose(near, net(x, Growth(stage, 1.0)), atol=1e-4)
    large = drawn(4, 3, 16, 16)
    for growth in (Growth(0), Growth(1, 0.5), Growth(2)):
        shown = faded(large, growth, 3)
        assert shown.shape[-1] == 4 * 2**growth.stage
        assert torch.allclose(F.avg_pool2d(shown, 2 ** (growth.stage + 1)), F.avg_pool2d(large, 8), atol=1e-6)
    assert faded(large, Growth(2), 3).equal(large)
    assert faded(large, Growth(2, 0.0), 3).equal(upsampled(F.avg_pool2d(large, 2)))


def test_layers_are_scaled_when_they_are_used() -> None:
    """Sec. 4.1: stored weights are N(0, 1), used ones have deviation sqrt(2 / fan_in)."""
    torch.manual_seed(0)
    conv, linear = EqualConv2d(24, 40, 3, padding=1, gain=SQRT2), EqualLinear(300, 200, gain=SQRT2)
    for layer, fan_in in ((conv, 24 * 9), (linear, 300)):
        assert layer.scale == pytest.approx(math.sqrt(2 / fan_in), rel=1e-12)
        assert layer.get_parameter("weight").std().item() == pytest.approx(1.0, rel=0.02)
    x = drawn(2, 24, 5, 5)
    assert torch.allclose(conv(x), F.conv2d(x, conv.weight * math.sqrt(2 / 216), padding=1), atol=1e-5)
    assert float(conv(drawn(4, 24, 9, 9))[:, :, 1:-1, 1:-1].var()) == pytest.approx(2.0, rel=0.15)
    slow = EqualLinear(300, 200, lr_multiplier=0.01, bias_init=1.0)
    assert float(slow.weight.std()) == pytest.approx(100.0, rel=0.02)
    plain = F.linear(drawn(3, 300), slow.weight * 0.01 / math.sqrt(300)) + 1
    assert torch.allclose(slow(drawn(3, 300)), plain, atol=1e-4)
    net = generator()
    assert net.first.scale == pytest.approx(math.sqrt(2 / (D * 16)))  # a 4x4 kernel over D channels
    assert all(rgb.scale == pytest.approx(1 / math.sqrt(w)) for rgb, w in zip(net.to_rgb, WIDTHS))


def test_pixels_have_unit_length() -> None:
    x = 7 * drawn(3, 16, 4, 4)
    length = pixel_norm(x).square().mean(1)
    assert torch.allclose(length, torch.ones_like(length), atol=1e-6)
    assert torch.allclose(pixel_norm(x), x / x.square().mean(1, keepdim=True).sqrt(), atol=1e-6)
    z = pixel_norm(drawn(6, 512))
    assert torch.allclose(z.norm(dim=1), torch.full((6,), math.sqrt(512)), rtol=1e-5)
    net = generator().double()
    z = drawn(2, D).double()
    assert torch.allclose(net(z, Growth(2)), net(3 * z, Growth(2)), atol=1e-6)  # only z's direction counts


def test_minibatch_deviation_by_hand() -> None:
    x = drawn(8, 3, 2, 2)
    out = minibatch_deviation(x)  # groups {0, 2, 4, 6} and {1, 3, 5, 7}
    for first in (0, 1):
        expected = float(x[first::2].std(0, correction=0).mean())
        assert torch.allclose(out[first::2, 3], torch.full((4, 2, 2), expected), atol=1e-5)
    assert out[:, :3].equal(x) and out.shape == (8, 4, 2, 2)
    assert float(minibatch_deviation(x[:1].expand(8, -1, -1, -1))[:, 3].max()) < 1e-3  # collapse shows
    assert minibatch_deviation(drawn(5, 3, 2, 2)).shape == (5, 4, 2, 2)  # any batch: groups of one
    assert minibatch_deviation(drawn(6, 3, 2, 2))[:, 3, 0, 0].unique().numel() == 2  # two groups of three


def test_growth_follows_from_the_images_seen() -> None:
    growing = Growing(stages=3, batch=10, fade=100, settle=200)
    assert [growing.at(step) for step in (0, 19)] == [Growth(0), Growth(0)]
    assert [growing.at(step) for step in (20, 25, 30, 49)] == [
        Growth(1, 0.0), Growth(1, 0.5), Growth(1, 1.0), Growth(1, 1.0)
    ]  # fmt: skip
    assert [growing.at(step) for step in (50, 60, 80, 10_000)] == [Growth(2, 0.0), *[Growth(2)] * 3]
    assert growing.at(57).stage == 2 and growing.at(57).alpha == pytest.approx(0.7)
    assert growing.last == 60
    assert Growing(1, 10, 100, 200).at(10_000) == Growth(0) and Growing(1, 10, 100, 200).last == 0
    assert Growing(3, 10, 0, 200).at(20) == Growth(1)
    plain = Growing(3, 10, 0, 0)  # nothing grows
    assert [plain.at(step) for step in (0, 1, 10_000)] == [Growth(2)] * 3 and plain.last == 0
    assert Growing(3, 10, 100, 0).at(0) == Growth(1, 0.0)
    for wrong in ((0, 10, 0, 200), (3, 0, 0, 200), (3, 10, -1, 200), (3, 10, 0, -1)):
        with pytest.raises(UsageError, match="at least one resolution"):
            Growing(*wrong)


def test_sizes_that_can_grow() -> None:
    assert [stages_of(size) for size in (4, 7, 8, 28, 32, 20, 64, 1024)] == [1, 1, 2, 3, 4, 3, 5, 9]
    with pytest.raises(UsageError, match="never gives 30 pixels. Ask for --size 28 or 32"):
        stages_of(30)
    net = ProgressiveGenerator((1, 28, 28), (8, 8, 4), D)
    assert [net(drawn(2, D), Growth(s)).shape[-1] for s in range(3)] == [7, 14, 28]


def test_every_stage_trains_its_own_layers() -> None:
    growing = Growing(stages=3, batch=4, fade=8, settle=8)
    rules = Rules(Wasserstein(drift=1e-3), GradientPenalty())
    for step, stage in ((0, 0), (3, 1), (5, 1), (9, 2)):
        g, c = generator(), critic()
        objective = ProgressiveTraining(g, c, D, growing, rules)
        batch = {"image": drawn(4, 3, 16, 16).clamp(-1, 1)}
        losses = objective.critic_loss(batch, step, torch.Generator().manual_seed(0))
        assert set(losses) == {"real", "fake", "drift", "penalty", "_spread", "_rank", "_told_apart"}
        sum(v for k, v in losses.items() if not k.startswith("_")).backward()
        objective.generator_loss(batch, step, torch.Generator().manual_seed(0))["adversarial"].backward()
        growth = growing.at(step)
        assert growth.stage == stage
        for blocks in (g.blocks, c.blocks):
            learns = [next(b.parameters()).grad is not None for b in blocks]
            assert learns == [i < stage for i in range(2)]
        fading = growth.alpha < 1 and stage > 0
        assert [rgb.get_parameter("weight").grad is not None for rgb in g.to_rgb] == [
            i == stage or (fading and i == stage - 1) for i in range(3)
        ]


@torch.no_grad()
def test_a_young_generator_shows_full_sized_pictures() -> None:
    objective = ProgressiveTraining(generator(), critic(), D, Growing(3, 4, 8, 8), Rules(Wasserstein()))
    objective.turns(0)
    small = objective.newest((16, 16)).sample(2, {}, noise=SeedNoise([0, 1]))
    assert small.shape == (2, 3, 16, 16) and small[:, :, :4, :4].flatten(2).std(2).max() < 1e-6  # one coarse pixel
    objective.turns(10)
    assert objective.newest((16, 16)).growth == Growth(2)
    assert set(objective.validate({"image": drawn(4, 3, 16, 16)}, torch.Generator().manual_seed(0))) >= {"critic"}
