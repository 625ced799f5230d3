"""Flows against closed forms: inverses, autograd's Jacobians, densities that integrate to one, starts from data."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from huggingvis.core.errors import NumericalTrouble, UsageError
from huggingvis.core.noise import BatchNoise, SeedNoise
from huggingvis.core.protocols import Decodes, Encodes, Generative, Likelihood
from huggingvis.metrics.bits import bits_per_dim
from huggingvis.nets.flows.bijection import Bijection, Chain, FactorOut, Flatten, Squeeze
from huggingvis.nets.flows.coupling import (
    AdditiveCoupling,
    AffineCoupling,
    Checkerboard,
    EvenOdd,
    Exp,
    Halves,
    MaskedAffineCoupling,
    Sigmoid,
    Tanh,
    chessboard,
)
from huggingvis.nets.flows.glow import GlowConfig, glow
from huggingvis.nets.flows.mixing import GlowStep, InvertibleConv
from huggingvis.nets.flows.model import Flow
from huggingvis.nets.flows.networks import CouplingConvs, CouplingMLP, CouplingResNet
from huggingvis.nets.flows.nice import NICEConfig, nice
from huggingvis.nets.flows.pointwise import ActNorm, Logit, Scale, ToUnit
from huggingvis.nets.flows.prior import Prior, StandardLogistic, StandardNormal
from huggingvis.nets.flows.realnvp import RealNVPConfig, realnvp
from huggingvis.objectives.likelihood import MaximumLikelihood, dequantise, log_probability

MAP, FLAT, PICTURE = (4, 4, 4), (6,), (1, 4, 4)


def convs() -> nn.Module:
    return CouplingConvs(2, 4, 8)


LAYERS: dict[str, tuple[Callable[[], Bijection | Flow], tuple[int, ...]]] = {
    "to unit": (ToUnit, PICTURE),
    "logit": (lambda: Chain([ToUnit(), Logit(0.05)]), PICTURE),
    "scale": (lambda: Scale(6), FLAT),
    "fast scale": (lambda: Scale(6, speed=10.0), FLAT),
    "actnorm": (lambda: ActNorm(4), MAP),
    "flatten": (lambda: Flatten(MAP), MAP),
    "squeeze": (Squeeze, PICTURE),
    "factor out": (lambda: FactorOut(MAP, Chain([Scale(2), Flatten((2, 4, 4))])), MAP),
    "1x1": (lambda: InvertibleConv(4), MAP),
    "additive": (lambda: AdditiveCoupling(CouplingMLP(3, 3, 8, 2), EvenOdd(flip=True), 3), FLAT),
    "affine": (lambda: AffineCoupling(convs(), Halves(), Tanh(2)), MAP),
    "sigmoid": (lambda: AffineCoupling(convs(), Halves(flip=True), Sigmoid()), MAP),
    "checkerboard": (lambda: AffineCoupling(CouplingResNet(2, 4, 8, 1), Checkerboard(flip=True), Exp()), MAP),
    "masked": (lambda: MaskedAffineCoupling(CouplingConvs(1, 2, 8), chessboard(3, 5), Tanh(1)), (1, 3, 5)),
    "glow step": (lambda: GlowStep(4, AffineCoupling(convs(), Halves(), Tanh(2))), MAP),
    "nice": (lambda: nice(NICEConfig(3, 16, 2), PICTURE), PICTURE),
    "realnvp": (lambda: realnvp(RealNVPConfig(2, 8, 1, alpha=0.05), PICTURE), PICTURE),
    "glow": (lambda: glow(GlowConfig(2, 2, 8, alpha=0.05), PICTURE), PICTURE),
}  # fmt: skip


def moved(build: Callable[[], nn.Module]) -> nn.Module:
    """With weights away from their zeros, float64."""
    torch.manual_seed(0)
    net = build().double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return net


def pictures(n: int, shape: tuple[int, ...], seed: int = 1) -> Tensor:
    return 2 * torch.rand(n, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) - 1


@pytest.mark.parametrize("name", LAYERS)
def test_inverse(name: str) -> None:
    layer, x = moved(LAYERS[name][0]), pictures(3, LAYERS[name][1])
    assert isinstance(layer, Bijection | Flow)
    for kind, most in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        layer.to(kind)
        with torch.no_grad():
            z = layer(x.to(kind))[0]
            back = layer.decode(z) if isinstance(layer, Flow) else layer.inverse(z)
        largest = max(1.0, float(z.abs().max()))  # what rounds on the way
        assert z.dtype == kind and float((back - x.to(kind)).abs().max()) < most * largest


@pytest.mark.parametrize("name", LAYERS)
def test_log_determinant_is_the_jacobians(name: str) -> None:
    layer, x = moved(LAYERS[name][0]), pictures(2, LAYERS[name][1])
    jacobian = torch.autograd.functional.jacobian(lambda a: layer(a)[0].flatten(1).sum(0), x)  # [D, B, ...]
    truth = torch.linalg.slogdet(jacobian.flatten(2).transpose(0, 1)).logabsdet
    with torch.no_grad():
        told, narrow = layer(x)[1], layer.float()(x.float())[1]
    assert told.shape == (2,) and float((told - truth).abs().max()) < 1e-8
    assert narrow.dtype == torch.float32 and float((narrow - truth).abs().max()) < 1e-4


def test_additive_couplings_keep_volume() -> None:
    flow = moved(lambda: nice(NICEConfig(4, 16, 2), PICTURE))
    assert isinstance(flow, Flow) and isinstance(flow.body, Chain)
    log_det = flow(pictures(3, PICTURE))[1]
    scale = next(layer for layer in flow.body.layers() if isinstance(layer, Scale))
    expected = scale.speed * scale.log_scale.sum() - 16 * math.log(2)
    assert torch.allclose(log_det, expected.expand(3), atol=1e-12)


@pytest.mark.parametrize("prior", [StandardNormal(), StandardLogistic()])
def test_density_integrates_to_one(prior: Prior) -> None:
    def net() -> nn.Module:
        return CouplingMLP(1, 2, 16, 1)

    steps = [AffineCoupling(net(), Halves(flip=i % 2 == 1), Tanh(1)) for i in range(3)]
    body = moved(lambda: Chain([*steps, ActNorm(2)]))
    side = torch.linspace(-80, 80, 1001, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    with torch.no_grad():
        z, log_det = body(grid)
        mass = (prior.log_prob(z) + log_det).exp().sum() * (side[1] - side[0]) ** 2
    assert float(mass) == pytest.approx(1, abs=1e-3)


def test_squeeze_is_undone_and_keeps_squares_together() -> None:
    x = torch.arange(32.0).reshape(1, 2, 4, 4)
    z, log_det = Squeeze()(x)
    assert z.shape == (1, 8, 2, 2) and z[0, 4:, 0, 1].tolist() == [18, 19, 22, 23]
    assert torch.equal(Squeeze().inverse(z), x) and torch.equal(log_det, torch.zeros(1))


@pytest.mark.parametrize("partition", [Halves(), Halves(flip=True), Checkerboard(), Checkerboard(flip=True)])
def test_partitions_cut_and_join(partition: Halves | Checkerboard) -> None:
    x = pictures(2, (8, 2, 3))
    assert torch.equal(partition.merge(*partition.split(x)), x)


def test_checkerboard_passes_one_colour_of_the_board() -> None:
    board = Squeeze()(chessboard(4, 6).expand(2, 3, 4, 6))[0]
    black, white = Checkerboard().split(board)
    assert torch.equal(black, torch.zeros(2, 6, 2, 3)) and torch.equal(white, torch.ones(2, 6, 2, 3))
    coupling = moved(lambda: AffineCoupling(CouplingConvs(2, 4, 8), Checkerboard(), Tanh(2)))
    x = pictures(2, (1, 6, 4))
    z = Squeeze().inverse(coupling(Squeeze()(x)[0])[0])
    stays = (z == x).double()
    assert torch.equal(stays, 1 - chessboard(6, 4).double().expand_as(stays))


def test_logits_jacobian_is_counted() -> None:
    """Under the logistic prior logits are uniform pictures, less the 2 alpha that lie outside: 8 bits a value."""
    x = dequantise(pictures(8, (1, 4, 4)), torch.Generator().manual_seed(0))
    for alpha in (1e-6, 1e-4, 1e-2):
        flow = Flow(Chain([ToUnit(), Logit(alpha)]), Flatten(PICTURE), StandardLogistic(), PICTURE).double()
        bits = bits_per_dim(flow.log_prob(x), 16)
        assert torch.allclose(bits, torch.full((8,), 8 - math.log2(1 - 2 * alpha), dtype=torch.float64), atol=1e-9)
    near_one = torch.full((1, *PICTURE), 1 - 1e-7)  # float32 has no digits left there
    assert float(Logit(1e-6)((near_one + 1) / 2)[0].max()) == pytest.approx(math.log(1 / 1.05e-6), abs=0.02)
    with pytest.raises(UsageError, match="margin"):
        Logit(0.0)


def test_actnorm_starts_from_its_first_batch_inside_a_whole_flow() -> None:
    torch.manual_seed(0)
    x = pictures(64, MAP) * torch.tensor([0.1, 1, 5, 0.7])[:, None, None] + 0.2
    norm = ActNorm(4).double()
    z = norm.initialise(x).transpose(0, 1).flatten(1)
    assert float(z.mean(1).abs().max()) < 1e-12 and float((z.std(1, correction=0) - 1).abs().max()) < 1e-12
    assert torch.equal(norm(x)[0].transpose(0, 1).flatten(1), z)
    flow = realnvp(RealNVPConfig(2, 8, 1), PICTURE).double()
    x = pictures(64, PICTURE) * 0.7 + 0.2
    flow.initialise(x)
    z = flow.encode(x).detach()
    assert float(z.mean().abs()) < 1e-9 and float(z.std(correction=0)) == pytest.approx(1, abs=1e-9)
    copy = realnvp(RealNVPConfig(2, 8, 1), PICTURE).double()
    copy.load_state_dict(flow.state_dict())  # nothing else says that the start has been made
    assert torch.equal(copy.train().log_prob(x), flow.log_prob(x))


def test_one_by_one_convolutions_determinant() -> None:
    conv = moved(lambda: InvertibleConv(6))
    assert isinstance(conv, InvertibleConv)
    x = pictures(2, (6, 3, 5))
    z, log_det = conv(x)
    truth = 15 * torch.linalg.slogdet(conv.weight()).logabsdet
    assert torch.allclose(log_det, truth.expand(2), atol=1e-10)
    assert torch.allclose(z, torch.einsum("oi,bihw->bohw", conv.weight(), x), atol=1e-12)
    eye = torch.eye(6, dtype=torch.float64)
    assert torch.allclose(conv.inverse_weight() @ conv.weight(), eye, atol=1e-10)
    fresh = InvertibleConv(6).weight()
    assert torch.allclose(fresh @ fresh.T, torch.eye(6), atol=1e-5)


def test_a_step_of_glow_is_its_three_layers() -> None:
    step = moved(LAYERS["glow step"][0])
    assert isinstance(step, GlowStep)
    x = pictures(2, MAP)
    z, log_det = step(x)
    parts = Chain([step.norm, step.mix, step.coupling])
    assert torch.allclose(z, parts(x)[0], atol=1e-12) and torch.allclose(log_det, parts(x)[1], atol=1e-10)


def test_fresh_couplings_change_nothing() -> None:
    x = pictures(2, MAP).float()
    for layer in (AffineCoupling(convs(), Halves(), Tanh(2)), AffineCoupling(convs(), Checkerboard(), Exp())):
        z, log_det = layer(x)
        assert torch.equal(z, x) and torch.equal(log_det, torch.zeros(2))
    flow = nice(NICEConfig(4, 16, 1), PICTURE)
    assert torch.equal(flow.encode(x[:, :1]), ((x[:, :1] + 1) / 2).flatten(1))


@pytest.mark.parametrize("prior", [StandardNormal(), StandardLogistic()])
def test_priors_draw_what_they_score(prior: Prior) -> None:
    z = prior.draw(torch.empty(40_000, 1, dtype=torch.float64), BatchNoise(0))
    reference: torch.distributions.Distribution = torch.distributions.Normal(0.0, 1.0)
    deviation, entropy = 1.0, 0.5 * math.log(2 * math.pi * math.e)
    if isinstance(prior, StandardLogistic):
        uniform = torch.distributions.Uniform(torch.zeros(()).double(), torch.ones(()).double())
        reference = torch.distributions.TransformedDistribution(uniform, [torch.distributions.SigmoidTransform().inv])
        deviation, entropy = math.pi / math.sqrt(3), 2.0
    assert torch.allclose(prior.log_prob(z), reference.log_prob(z[:, 0]), atol=1e-6)
    assert float(z.std()) == pytest.approx(deviation, rel=0.02)
    assert -float(prior.log_prob(z).mean()) == pytest.approx(entropy, abs=0.02)


def test_loss_is_the_papers_units() -> None:
    """A uniform density: 8 bits per value of 256, log 1 = 0 nats of pictures in [0, 1]."""
    flow = Flow(Chain([ToUnit(), Logit(1e-7)]), Flatten(PICTURE), StandardLogistic(), PICTURE).double()
    batch = {"image": pictures(4, PICTURE)}
    rng = torch.Generator().manual_seed(0)
    losses = MaximumLikelihood(flow).loss(batch, 0, rng)
    assert float(losses["bits_per_dim"]) == pytest.approx(8, abs=1e-5)
    assert float(losses["_nats"]) == pytest.approx(0, abs=1e-4)
    assert -float(log_probability(flow, batch["image"], draws=3).mean()) == pytest.approx(16 * math.log(256), abs=1e-3)


def test_dequantised_values_stay_in_their_bins() -> None:
    values = torch.arange(256.0)
    x = (values / 127.5 - 1).reshape(1, 1, 16, 16).repeat(50, 1, 1, 1)
    spread = dequantise(x, torch.Generator().manual_seed(0))
    assert torch.equal(torch.floor((spread + 1) * 128).long()[7].flatten(), values.long())
    assert float(((spread + 1) * 128 - torch.floor((spread + 1) * 128)).mean()) == pytest.approx(0.5, abs=0.01)


def test_more_draws_tighten_the_bound() -> None:
    flow = moved(lambda: nice(NICEConfig(2, 16, 1), PICTURE))
    assert isinstance(flow, Flow)
    with torch.no_grad():
        flow.get_parameter("body.steps.3.log_scale").fill_(0.5)  # sharp enough to differ within a bin
    x = pictures(64, PICTURE)
    one, many = (float(log_probability(flow, x, draws=k).mean()) for k in (1, 32))
    assert one + 0.05 < many


def test_flow_offers_what_generation_needs() -> None:
    flow = glow(GlowConfig(2, 1, 8), (3, 8, 8))
    for protocol in (Encodes, Decodes, Generative, Likelihood):
        assert isinstance(flow, protocol)
    two = flow.sample(2, {}, noise=SeedNoise([4, 5]))
    assert two.shape == (2, 3, 8, 8) and torch.allclose(two[1:], flow.sample(1, {}, noise=SeedNoise([5])), atol=1e-5)
    cold = flow.sample(2, {}, noise=SeedNoise([4, 5]), temperature=0.0)
    assert torch.equal(cold[0], cold[1]) and not torch.equal(two[0], two[1])
    with pytest.raises(UsageError, match="multiples of 4"):
        glow(GlowConfig(2, 1, 8), (1, 6, 6))


def test_overflow_of_samples_is_found_and_named() -> None:
    flow = glow(GlowConfig(1, 1, 8), PICTURE)
    with torch.no_grad():
        flow.get_parameter("body.steps.2.log_scale").fill_(-5.0)  # latents are stretched e^5 times on the way back
    assert float(flow.watch(pictures(2, PICTURE).float())["_sample_overflow"]) == 0
    x, bad = flow.draw(8, BatchNoise(0), temperature=50.0)
    assert bad.all() and torch.equal(x, torch.zeros(8, *PICTURE))
    with pytest.raises(NumericalTrouble, match=r"8 of 8 draws overflowed .* temperature 50: .*0\.7"):
        flow.sample(8, {}, noise=BatchNoise(0), temperature=50.0)


def test_a_density_that_breaks_names_its_layer() -> None:
    flow = glow(GlowConfig(1, 2, 8), PICTURE)
    objective = MaximumLikelihood(flow, watched=flow)
    batch = {"image": pictures(4, PICTURE).float()}
    with torch.no_grad():
        flow.get_parameter("body.steps.2.mix.log_s")[0] = math.inf
    with pytest.raises(NumericalTrouble, match=r"4 of 4 pictures.*mix\.log_s of layer 2 \(GlowStep\) of the body"):
        objective.loss(batch, 0, torch.Generator().manual_seed(0))
    with pytest.raises(TypeError, match="no log_prob"):
        MaximumLikelihood(nn.Linear(1, 1))
