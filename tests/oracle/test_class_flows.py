"""Flows of classes against closed forms: densities of each class, their mixture, Bayes' rule, and draws of a class."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from huggingvis.core.noise import BatchNoise, SeedNoise
from huggingvis.nets.flows.bijection import Bijection, Chain
from huggingvis.nets.flows.class_prior import ClassPrior
from huggingvis.nets.flows.coupling import AffineCoupling, Halves, Tanh
from huggingvis.nets.flows.glow import GlowConfig, glow
from huggingvis.nets.flows.model import Flow
from huggingvis.nets.flows.networks import CouplingMLP
from huggingvis.nets.flows.nice import NICEConfig, nice
from huggingvis.nets.flows.pointwise import ActNorm
from huggingvis.nets.flows.prior import Prior, StandardLogistic, StandardNormal
from huggingvis.nets.flows.realnvp import RealNVPConfig, realnvp
from huggingvis.objectives.likelihood import MaximumLikelihood, OfClass, dequantise

PICTURE, K = (1, 4, 4), 3
FLOWS = {
    "nice": lambda: nice(NICEConfig(2, 16, 1), PICTURE, K),
    "realnvp": lambda: realnvp(RealNVPConfig(2, 8, 0, alpha=0.05), PICTURE, K),
    "glow": lambda: glow(GlowConfig(2, 1, 8, alpha=0.05), PICTURE, K),
}
BASES = [StandardNormal(), StandardLogistic()]


def classes(base: Prior, top: int) -> ClassPrior:
    """With places and spreads away from zero, float64."""
    torch.manual_seed(3)
    prior = ClassPrior(base, K, top).double()
    with torch.no_grad():
        prior.mean.normal_()
        prior.log_scale.normal_(std=0.4)
    return prior


def flow_of(name: str) -> Flow:
    torch.manual_seed(0)
    flow = FLOWS[name]().double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return flow


def vector(*labels: int) -> dict[str, Tensor]:
    return {"vector": torch.eye(K, dtype=torch.float64)[list(labels)]}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("top", [1, 2])
def test_the_density_of_each_class_integrates_to_one(base: Prior, top: int) -> None:
    torch.manual_seed(0)
    steps: list[Bijection] = [
        AffineCoupling(CouplingMLP(1, 2, 8, 1), Halves(flip=i % 2 == 1), Tanh(1)) for i in range(2)
    ]
    body = Chain([*steps, ActNorm(2)]).double()
    with torch.no_grad():
        for parameter in body.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        side = torch.linspace(-60, 60, 601, dtype=torch.float64)
        z, log_det = body(torch.cartesian_prod(side, side))
        each = classes(base, top).each(z) + log_det[:, None]
        mixture = classes(base, top).log_prob(z) + log_det
    cell = float(side[1] - side[0]) ** 2
    assert (each.exp().sum(0) * cell).tolist() == pytest.approx([1.0] * K, abs=1e-3)
    assert torch.allclose(mixture.exp(), each.exp().mean(1), atol=1e-12)


def test_each_class_is_its_own_normal() -> None:
    prior, z = classes(StandardNormal(), 2), torch.randn(5, 4, dtype=torch.float64)
    for y in range(K):
        law = torch.distributions.Normal(prior.mean[y], prior.log_scale[y].exp())
        rest = torch.distributions.Normal(torch.zeros(2).double(), torch.ones(2).double())
        truth = law.log_prob(z[:, :2]).sum(1) + rest.log_prob(z[:, 2:]).sum(1)
        assert torch.allclose(prior.each(z)[:, y], truth, atol=1e-12)
        assert torch.allclose(prior.log_prob(z, vector(*[y] * 5)), truth, atol=1e-12)
    mixed = {"vector": vector(0, 1, 2, 0, 0)["vector"] * torch.tensor([1.0, 1, 1, 0, 0])[:, None]}
    assert torch.allclose(prior.log_prob(z, mixed)[3:], prior.log_prob(z)[3:])  # rows of any class
    assert torch.allclose(ClassPrior(StandardNormal(), K, 2).double().log_prob(z), StandardNormal().log_prob(z))


@pytest.mark.parametrize("base", BASES)
def test_draws_of_a_class_lie_where_it_is(base: Prior) -> None:
    prior, like = classes(base, 1), torch.empty(40_000, 2, dtype=torch.float64)
    deviation = 1.0 if isinstance(base, StandardNormal) else math.pi / math.sqrt(3)
    z = prior.draw(like, BatchNoise(0), vector(*[1] * len(like))).detach()
    place, spread = prior.mean[1, 0].item(), prior.log_scale[1, 0].exp().item() * deviation
    assert float(z[:, 0].mean()) == pytest.approx(place, abs=0.03 * spread)
    assert z.std(0).tolist() == pytest.approx([spread, deviation], rel=0.02)
    any_class = prior.draw(like, BatchNoise(0)).detach()
    assert float(any_class[:, 0].mean()) == pytest.approx(prior.mean.mean().item(), abs=0.05)
    cold = prior.draw(like, BatchNoise(0), vector(*[1] * len(like)), temperature=0.0)
    assert torch.equal(cold, torch.tensor([place, 0.0], dtype=torch.float64).expand_as(like))


@pytest.mark.parametrize("name", FLOWS)
def test_flows_of_classes_are_inverted_and_scored(name: str) -> None:
    flow, x = flow_of(name), 2 * torch.rand(K, *PICTURE, dtype=torch.float64) - 1
    assert isinstance(flow.prior, ClassPrior) and flow.prior.top == {"nice": 16}.get(name, 8)
    with torch.no_grad():
        z = flow.latents(K, vector(0, 1, 2), noise=SeedNoise(range(K)))
        back = flow.encode(flow.decode(z))
        given, mixture = flow.log_prob(x, vector(0, 1, 2)), flow.log_prob(x)
        each = torch.stack([flow.log_prob(x, vector(*[y] * K)) for y in range(K)])
    assert float((back - z).abs().max()) < 1e-9 * max(1.0, float(z.abs().max()))
    assert torch.allclose(given, each.diagonal()) and torch.allclose(mixture, each.logsumexp(0) - math.log(K))


def test_the_loss_is_the_likelihood_of_the_class_and_bayes_rule() -> None:
    flow, x = flow_of("glow"), 2 * torch.rand(6, *PICTURE, dtype=torch.float64) - 1
    labels = torch.tensor([0, 1, 2, 2, 1, 0])
    assert isinstance(flow.prior, ClassPrior)
    objective = MaximumLikelihood(flow, of_class=OfClass(flow, flow.prior, weight=0.5))
    losses = objective.loss({"image": x, "label": labels}, 0, torch.Generator().manual_seed(4))
    seen = dequantise(x, torch.Generator().manual_seed(4))
    each = torch.stack([flow.log_prob(seen, vector(*[y] * 6)) for y in range(K)], dim=1)  # [B, K]
    bits = -(each[range(6), labels].mean() / 16 + math.log(2 / 256)) / math.log(2)
    apart = torch.nn.functional.cross_entropy(each, labels) / math.log(2)
    assert torch.allclose(losses["bits_per_dim"], bits) and torch.allclose(losses["class"], 0.5 * apart)
    assert float(losses["_right"]) == pytest.approx(float((each.argmax(1) == labels).double().mean()))
    (losses["bits_per_dim"] + losses["class"]).backward()
    assert all(p.grad is not None and float(p.grad.abs().max()) > 0 for p in flow.prior.parameters())
