"""Analog bits, self-conditioning and asymmetric time on laws of few integers that are known exactly."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from huggingvis.codecs.bits import AnalogBits, Binary, Code, Gray, PixelBits, Shuffled, bits2int, int2bits
from huggingvis.codecs.text import TextTokenizer
from huggingvis.core.belief import Belief, Gaussian
from huggingvis.core.diffusion import NetDenoiser
from huggingvis.core.errors import UsageError
from huggingvis.core.grid import Grid
from huggingvis.core.noise import BatchNoise
from huggingvis.core.process import PREDICTIONS, X0, Process
from huggingvis.core.protocols import Cond
from huggingvis.core.sample import sample
from huggingvis.core.sampler import Sampler
from huggingvis.core.self_conditioning import SelfConditioning
from huggingvis.data.mixture import GaussianMixture
from huggingvis.guidance.cfg import ClassifierFree
from huggingvis.guidance.threshold import Clip
from huggingvis.nets.unet import UNet, UNetConfig
from huggingvis.objectives.denoise import Denoising, UniformTimes
from huggingvis.processes.vp import CosineVP, LinearVP
from huggingvis.recipes.denoiser_training import UNetSizes
from huggingvis.recipes.diffusion import bit
from huggingvis.recipes.sources import Facts
from huggingvis.samplers.ancestral import Ancestral
from huggingvis.samplers.asymmetric import Asymmetric
from huggingvis.samplers.ddim import DDIM
from huggingvis.samplers.grids import Uniform
from huggingvis.samplers.heun import Heun

F64 = torch.float64
CODES: list[Code] = [Binary(), Gray(), Shuffled(3)]
TOY = torch.tensor([0.4, 0.0, 0.1, 0.05, 0.15, 0.3])  # the law of an integer in 0..5: three bits, two words unused


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("depth", [1, 2, 3, 5, 8, 12])
def test_bits2int_undoes_int2bits(depth: int) -> None:
    x = torch.arange(2**depth).reshape(1, 1, -1)
    bits = int2bits(x, depth)
    assert bits.shape == (1, depth, 2**depth) and set(bits.unique().tolist()) == {0, 1}
    assert torch.equal(bits2int(bits, depth), x)
    written = [int("".join(map(str, column)), 2) for column in bits[0].T.tolist()]
    assert written == list(range(2**depth))  # the highest bit is the first channel


@pytest.mark.parametrize("code", CODES, ids=repr)
@pytest.mark.parametrize(("count", "scale"), [(2, 1.0), (10, 0.5), (256, 1.0), (1000, 3.0)])
def test_decoding_undoes_encoding(code: Code, count: int, scale: float) -> None:
    bits = AnalogBits(count, scale, code)
    x = torch.stack([torch.arange(count), torch.arange(count).flip(0)]).reshape(1, 2, count)
    z = bits.encode(x)
    assert z.shape == (1, 2 * bits.depth, count) and bits.depth == math.ceil(math.log2(count))
    assert set(z.unique().tolist()) == {-scale, scale}
    assert torch.equal(bits.decode(z), x)
    assert torch.equal(bits.decode(z + 0.99 * scale * (2 * torch.rand(z.shape, generator=seeded(0)) - 1)), x)
    assert int(bits.decode(torch.randn(1, 2 * bits.depth, 500, generator=seeded(1))).max()) < count


def test_gray_words_of_neighbours_differ_in_one_bit() -> None:
    z = AnalogBits(256, 1.0, Gray()).encode(torch.arange(256).reshape(1, 1, -1))[0]  # [8, 256]
    assert (z.diff(dim=1) != 0).sum(0).tolist() == [1] * 255
    written = torch.stack([code.word(torch.arange(64), 6) for code in CODES])
    assert [sorted(row.tolist()) for row in written] == [list(range(64))] * 3


def test_pictures_class_maps_and_captions() -> None:
    """8-bit pictures come back exactly, as the community's formulas have them: masks of powers of two, > 0."""
    levels = torch.arange(256).reshape(1, 1, 16, 16).repeat(1, 3, 1, 1)
    picture, codec = levels / 127.5 - 1, PixelBits()
    z = codec.encode(picture)
    assert z.shape == (1, 24, 16, 16)
    mask = 2 ** torch.arange(7, -1, -1)
    theirs = ((levels[:, :, None] & mask[:, None, None]) != 0).float().flatten(1, 2) * 2 - 1
    assert torch.equal(z, theirs)
    assert torch.equal(codec.decode(z), ((z.unflatten(1, (3, 8)) > 0) * mask[:, None, None]).sum(2) * (2 / 255) - 1)
    assert float((codec.decode(z) - picture).abs().max()) < 1e-6
    coarse = PixelBits(AnalogBits(4))
    assert (
        coarse.bits.depth == 2 and float((coarse.decode(coarse.encode(picture)) - picture).abs().max()) < 1 / 3 + 1e-6
    )
    text = TextTokenizer.learn(["a red fox", "two blue circles"], 40)
    ids = text.ids(["a red fox", "two blue circles"])[:, None]  # [B, 1, L]
    words = AnalogBits(text.vocabulary)
    assert torch.equal(words.decode(words.encode(ids)), ids)


def test_the_recipe_writes_and_keeps_the_bits_it_was_asked_for() -> None:
    """Beliefs are clipped at the size of a bit, whatever it is."""
    config = bit.Config(levels=5, scale=0.3, code="gray", net=UNetSizes((8,), 1, (0,), 0, 1, self_conditioned=True))
    made = bit.model(config, Facts("pictures", 9, 4, 3))
    assert made.limits == (Clip(0.3),) and made.shape == (9, 4, 4) and made.estimating == SelfConditioning()
    assert config.codec == PixelBits(AnalogBits(5, 0.3, Gray()))


@pytest.mark.parametrize("wrong", [{"count": 1}, {"count": 2**25}, {"scale": 0.0}])
def test_impossible_bits_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="Analog bits write"):
        AnalogBits(**wrong)
    with pytest.raises(UsageError, match="from 0 to 9, found 3 to 10"):
        AnalogBits(10).encode(torch.tensor([[[3, 10]]]))


def points(bits: AnalogBits) -> GaussianMixture:
    """The toy's law in analog bits: a point for each integer."""
    z = bits.encode(torch.arange(len(TOY)).reshape(-1, 1)).to(F64)  # [K, 3]
    return GaussianMixture(TOY.clamp(min=1e-300), z, torch.zeros(len(TOY), 3, 3))


@pytest.mark.parametrize("code", CODES, ids=repr)
def test_posterior_mean_of_bits(code: Code) -> None:
    """E[x_0 | x_t] is the mean of words w under p_w exp(alpha x.w/sigma^2); of a fair bit b tanh(alpha b x/sigma^2)."""
    bits, process = AnalogBits(len(TOY), 0.7, code), LinearVP()
    t = torch.tensor([0.1, 0.4, 0.8], dtype=F64)
    x = torch.randn(3, 3, dtype=F64, generator=seeded(0))
    a, s = process.alpha(t)[:, None], process.sigma(t)[:, None]
    words = bits.encode(torch.arange(6).reshape(-1, 1)).to(F64)  # [6, 3]: all of the same length
    share = TOY.to(F64) * torch.exp(a / s**2 * (x @ words.T))
    assert torch.allclose(points(bits).x0(x, process, t), share @ words / share.sum(1, keepdim=True), atol=1e-10)
    fair = GaussianMixture(torch.ones(2), torch.tensor([[-0.7], [0.7]]), torch.zeros(2, 1, 1))
    want = 0.7 * torch.tanh(a * 0.7 * x[:, :1] / s**2)
    assert torch.allclose(fair.x0(x[:, :1], process, t), want, atol=1e-7)  # 0.7 is kept in float32


@pytest.mark.parametrize("sampler", [Ancestral(), DDIM(), DDIM(1.0), Heun()], ids=repr)
@pytest.mark.parametrize("code", [Binary(), Shuffled(3)], ids=repr)
def test_samples_have_the_toys_marginals(sampler: Sampler, code: Code) -> None:
    bits, process, n = AnalogBits(len(TOY), 1.0, code), CosineVP(), 4000
    x = torch.randn(n, 3, dtype=F64, generator=seeded(1))
    denoise = Clip(1.0)(points(bits).denoiser(process))
    z = sample(denoise, process, sampler, x, Uniform(100)(process), {}, noise=BatchNoise(2))
    assert float((z.abs() - 1).abs().quantile(0.99)) < 0.05  # every bit is one
    found = torch.bincount(bits.decode(z)[:, 0], minlength=6) / n
    assert bool(((found - TOY).abs() < 4 * (TOY * (1 - TOY) / n).sqrt() + 5e-3).all()), found


class Echo(nn.Module):
    """Answers with a mix of x and the estimate it is told, and keeps what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5, dtype=F64))
        self.told: list[Tensor] = []

    def forward(self, x: Tensor, clock: Tensor, cond: Cond) -> Tensor:
        self.told.append(cond["concat"].detach().clone())
        return self.weight * x + 0.25 * cond["concat"][:, -x.shape[1] :]


def unet(concat: int, seed: int = 0) -> UNet:
    torch.manual_seed(seed)
    net = UNet(UNetConfig(2, 2, concat, (8, 16), 1, (0, 0), 0, 1, groups=4)).double()
    for p in net.parameters():
        p.data += 0.05 * torch.randn(p.shape, dtype=F64)
    return net


def test_zeros_make_a_plain_net() -> None:
    """Without an estimate the outputs are those of the same net without the port; with one they are not."""
    told, plain = unet(2), unet(0)
    weights = told.state_dict()
    plain.load_state_dict({**weights, "conv_in.weight": weights["conv_in.weight"][:, :2]})
    x, t, process = torch.randn(3, 2, 8, 8, dtype=F64, generator=seeded(1)), torch.tensor(0.5, dtype=F64), LinearVP()
    denoise = SelfConditioning()(NetDenoiser(told, process, X0()))
    with torch.no_grad():
        want = NetDenoiser(plain, process, X0())(x, t, {}).x0
        assert float((denoise(x, t, {}).x0 - want).abs().max()) < 1e-13
        assert torch.equal(denoise(x, t, {}).x0, denoise(x, t, {"estimate": torch.zeros_like(x)}).x0)
        assert float((denoise(x, t, {"estimate": x}).x0 - want).abs().max()) > 1e-3


@pytest.mark.parametrize("prediction", sorted(PREDICTIONS))
def test_training_with_no_share_is_plain_training(prediction: str) -> None:
    told, plain = unet(2), unet(0)
    weights = told.state_dict()
    plain.load_state_dict({**weights, "conv_in.weight": weights["conv_in.weight"][:, :2]})
    batch = {"x0": torch.randn(4, 2, 8, 8, dtype=F64, generator=seeded(2))}

    @torch.no_grad()
    def loss(net: UNet, estimating: SelfConditioning | None) -> float:
        objective = Denoising(net, LinearVP(), PREDICTIONS[prediction](), UniformTimes(0.1), estimating=estimating)
        return float(objective.loss(batch, 0, seeded(3))["mse"])

    assert loss(told, SelfConditioning(0.0)) == pytest.approx(loss(plain, None), rel=1e-12)
    assert loss(told, SelfConditioning(1.0)) != pytest.approx(loss(plain, None), rel=1e-6)


def test_half_of_the_data_are_told_the_first_belief() -> None:
    """Algorithm 1: the estimate is the net's own answer to zeros, and no gradient goes through it."""
    net, process = Echo(), LinearVP()
    objective = Denoising(net, process, X0(), UniformTimes(), estimating=SelfConditioning())
    asked = objective.ask({"x0": torch.randn(10, 1, 4, 4, dtype=F64, generator=seeded(0))}, seeded(1))
    first, second = net.told
    assert first.shape == (5, 1, 4, 4) and not bool(first.any())
    told = second.flatten(1).any(1)
    assert int(told.sum()) == 5
    assert torch.allclose(second[told], 0.5 * asked.x[told]) and not bool(second[~told].any())
    asked.out.sum().backward()
    assert net.weight.grad is not None
    assert float(net.weight.grad) == pytest.approx(float(asked.x.sum()))  # of the second pass alone
    drawn = []
    for seed in range(20):
        net.told.clear()
        objective.ask({"x0": torch.zeros(1, 1, 4, 4, dtype=F64)}, seeded(seed))
        drawn.append(bool(net.told[-1].any()))
    assert 4 <= sum(drawn) <= 16  # one datum alone: half of the times


def test_lower_precision_still_teaches() -> None:
    """A pass without gradients must not leave half-precision copies of the weights that no gradient reaches."""
    torch.manual_seed(0)
    net = UNet(UNetConfig(1, 1, 1, (8,), 1, (0,), 0, 1, groups=4))
    nn.init.normal_(net.conv_out.weight)
    objective = Denoising(net, LinearVP(), X0(), UniformTimes(), estimating=SelfConditioning())
    with torch.autocast("cpu", torch.bfloat16):
        objective.loss({"x0": torch.randn(4, 1, 8, 8, generator=seeded(0))}, 0, seeded(0))["mse"].backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []
    assert float(net.conv_in.weight.grad.abs().max()) > 0


@pytest.mark.parametrize("sampler", [DDIM(), Heun()], ids=repr)
def test_the_loop_hands_on_the_last_belief(sampler: Sampler) -> None:
    net, process = Echo(), LinearVP()
    beliefs: list[Tensor] = []
    denoise = SelfConditioning()(NetDenoiser(net, process, X0()))

    def heard(x: Tensor, t: Tensor, cond: Cond) -> Belief:
        belief = denoise(x, t, cond)
        assert isinstance(belief, Gaussian)
        beliefs.append(belief.x0.detach())
        return belief

    x = torch.randn(2, 1, 4, 4, dtype=F64, generator=seeded(0))
    with torch.no_grad():
        sample(heard, process, sampler, x, Uniform(4)(process), {}, noise=BatchNoise(0))
    assert not bool(net.told[0].any()) and len(net.told) == len(beliefs) >= 4
    assert all(torch.equal(told, belief) for told, belief in zip(net.told[1:], beliefs[:-1], strict=True))


def test_guidance_shares_the_estimate() -> None:
    """Both halves of classifier-free guidance are told the guided belief, behind what `concat` held before."""
    net, process = Echo(), LinearVP()
    denoise = ClassifierFree(3.0)(SelfConditioning()(NetDenoiser(net, process, X0())))
    x = torch.randn(2, 1, 4, 4, dtype=F64, generator=seeded(0))
    cond = {"vector": torch.ones(2, 1), "negative.vector": torch.zeros(2, 1), "concat": torch.full_like(x, 7.0)}
    with torch.no_grad():
        sample(denoise, process, DDIM(), x, Uniform(3)(process), cond, noise=BatchNoise(0))
    assert net.told[1].shape == (4, 2, 4, 4) and bool((net.told[1][:, 0] == 7).all())
    assert torch.equal(net.told[1][:2], net.told[1][2:]) and bool(net.told[1][:, 1].any())


def test_asymmetric_steps_are_algorithm_2() -> None:
    """x at max(1 - (n + 1 + td)/N, 0) after step n, while the net is called at 1 - n/N."""
    process, steps, td = CosineVP(), 5, 1.3
    asked: list[tuple[float, Tensor]] = []

    def denoise(x: Tensor, t: Tensor, cond: Cond) -> Belief:
        asked.append((float(t), x))
        return Gaussian(torch.tanh(x) * 0.5)

    x = torch.randn(2, 3, dtype=F64, generator=seeded(0))
    grid = Uniform(steps)(process)
    end = sample(denoise, process, Asymmetric(DDIM(), td), x, grid, {}, noise=BatchNoise(0))
    for n in range(steps):
        now, then = (torch.tensor(max(v, 0.0), dtype=F64) for v in (1 - n / steps, 1 - (n + 1 + td) / steps))
        assert asked[n][0] == pytest.approx(float(now), abs=1e-12) and torch.allclose(asked[n][1], x, atol=1e-12)
        x0 = torch.tanh(x) * 0.5
        x = process.alpha(then) * x0 + process.sigma(then) * process.eps(x, x0, now)
    assert torch.allclose(end, x, atol=1e-12)


@pytest.mark.parametrize("inner", [DDIM(), Ancestral(), Heun()], ids=repr)
def test_no_asymmetry_is_the_sampler_itself(inner: Sampler) -> None:
    process: Process = LinearVP()
    mixture = points(AnalogBits(6))
    x, grid = torch.randn(4, 3, dtype=F64, generator=seeded(0)), Uniform(8)(process)

    def run(sampler: Sampler, grid: Grid) -> Tensor:
        return sample(mixture.denoiser(process), process, sampler, x, grid, {}, noise=BatchNoise(1))

    assert torch.equal(run(inner, grid), run(Asymmetric(inner, 0.0), grid))
    assert Asymmetric(inner, 0.0).order == inner.order and Asymmetric(inner, 1.0).order == 0
    assert not torch.allclose(run(inner, grid), run(Asymmetric(inner, 0.5), grid))
    with pytest.raises(UsageError, match="0 or more; found -1"):
        Asymmetric(inner, -1.0)
