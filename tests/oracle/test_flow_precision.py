"""Flows under bf16 autocast: only the networks inside couplings are narrow; all that counts volume is not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from huggingvis.nets.flows.bijection import Bijection
from huggingvis.nets.flows.class_prior import ClassPrior
from huggingvis.nets.flows.coupling import AffineCoupling, Halves, Tanh
from huggingvis.nets.flows.glow import GlowConfig, glow
from huggingvis.nets.flows.mixing import GlowStep, InvertibleConv
from huggingvis.nets.flows.model import Flow
from huggingvis.nets.flows.networks import CouplingConvs
from huggingvis.nets.flows.pointwise import ActNorm, Logit
from huggingvis.nets.flows.prior import StandardNormal
from huggingvis.objectives.likelihood import MaximumLikelihood

MAP, PICTURE = (4, 4, 4), (1, 8, 8)


def moved(net: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return net


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bars(n: int, seed: int) -> Tensor:
    """Noisy bright columns at one of four places, [n, 1, 8, 8]."""
    x = 0.2 * torch.rand(n, *PICTURE, generator=rng(seed)) - 0.9
    place = torch.randint(4, (n,), generator=rng(seed + 1))
    return x + 1.6 * (torch.arange(8) // 2 == place[:, None])[:, None, None, :]


@pytest.mark.parametrize("layer", [ActNorm(4), InvertibleConv(4), Logit(0.05)])
def test_layers_without_a_network_are_the_same_under_autocast(layer: Bijection) -> None:
    torch.manual_seed(0)
    moved(layer)
    x = torch.rand(3, *MAP, generator=rng(0))
    with torch.no_grad():
        wide = layer(x)
        with torch.autocast("cpu", torch.bfloat16):
            narrow = layer(x)
            back = layer.inverse(narrow[0])
    assert all(torch.equal(a, b) and b.dtype == torch.float32 for a, b in zip(wide, narrow, strict=True))
    assert float((back - x).abs().max()) < 1e-5


def test_scales_and_log_determinants_of_couplings_are_float32() -> None:
    torch.manual_seed(0)
    step = GlowStep(4, AffineCoupling(CouplingConvs(2, 4, 8), Halves(), Tanh(2)))
    moved(step)
    x = torch.randn(3, *MAP, generator=rng(0))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert isinstance(step.coupling, AffineCoupling)
        s, t = step.coupling.moves(x[:, :2])
        z, log_det = step(x)
        assert step.coupling.net(x[:, :2]).dtype == torch.bfloat16
        back = step.inverse(z)
    assert {a.dtype for a in (s, t, z, log_det)} == {torch.float32}
    assert float((back - x).abs().max()) < 0.02  # there and back its network rounds differently
    prior = ClassPrior(StandardNormal(), 3, 4)
    moved(prior)
    with torch.no_grad():
        told = prior.each(x.flatten(1))
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(prior.each(x.flatten(1)), told)


def fitted(narrow: bool, steps: int = 40) -> tuple[Flow, float]:
    """A Glow trained for a few steps, and its held-out bits per dimension."""
    torch.manual_seed(0)
    flow = glow(GlowConfig(2, 2, 16), PICTURE)
    flow.initialise(bars(64, 0))
    objective, optim = MaximumLikelihood(flow), torch.optim.Adam(flow.parameters(), lr=2e-3)
    for step in range(steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            loss = objective.loss({"image": bars(32, 2 * step)}, step, rng(step))["bits_per_dim"]
        optim.zero_grad()
        loss.backward()
        assert all(p.grad is None or p.grad.dtype == torch.float32 for p in flow.parameters())
        optim.step()
    with torch.autocast("cpu", torch.bfloat16, enabled=narrow):  # validation leaves it
        told = objective.validate({"image": bars(64, 9999)}, rng(0))
    return flow, float(told["bits_per_dim"])


def test_bits_per_dimension_of_a_training_in_bf16_are_those_of_float32() -> None:
    (_, start), (flow, wide), (_, narrow) = fitted(False, 0), fitted(False), fitted(True)
    assert wide < start - 0.5 and narrow != wide and abs(narrow - wide) < 0.02
    with torch.no_grad():
        back = flow.decode(flow.encode(bars(8, 7)))
    assert float((back - bars(8, 7)).abs().max()) < 1e-4
