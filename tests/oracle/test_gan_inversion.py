"""Inversion finds the styles of a generator's own pictures, and the closed-form ones of a linear generator."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from huggingvis.core.errors import NumericalTrouble, UsageError
from huggingvis.edits.gan_inversion import Search, W, WPlus, invert
from huggingvis.nets.layer_noise import LayerNoise
from huggingvis.nets.stylegan import StyleGANSizes, StyleGenerator, StyleMapping, fresh_generator
from huggingvis.nets.stylegan2_synthesis import StyleGAN2Synthesis


def tiny() -> StyleGenerator:
    torch.manual_seed(0)
    sizes = StyleGANSizes((12, 8), z_dim=6, w_dim=6, mapping_layers=2)
    net = fresh_generator(sizes, StyleGAN2Synthesis(sizes))
    with torch.no_grad():
        net.w_avg.copy_(net.mapping(torch.randn(500, 6)).mean(0))
    return net


@pytest.mark.parametrize("space", [W(), WPlus()], ids=["W", "W+"])
def test_own_pictures_are_found_again(space: W | WPlus) -> None:
    net = tiny()
    with torch.no_grad():
        w = net.mapping(torch.randn(2, 6))
        x = net.decode(w)
    start = net.w_avg.clone()
    found = invert(net, x, space, Search(steps=300))
    assert found.ws.shape == (2, 4, 6) and float(found.psnr.min()) > 40
    assert torch.allclose(net.decode(found.ws), found.pictures) and torch.equal(net.w_avg, start)
    if isinstance(space, W):
        assert torch.allclose(found.ws[:, 0], w, atol=0.02)
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


def test_pictures_are_inverted_each_on_its_own() -> None:
    net = tiny()
    with torch.no_grad():
        x = net.decode(net.mapping(torch.randn(2, 6)))
    both = invert(net, x, search=Search(steps=20))
    alone = invert(net, x[1:], search=Search(steps=20))
    assert torch.allclose(both.ws[1:], alone.ws, atol=1e-4)
    on = invert(net, x, search=Search(steps=60), start=both.ws[:, 0])
    assert (on.psnr > both.psnr).all()


class Linear(nn.Module):
    """x = A w_0."""

    layers = 2

    def __init__(self, a: Tensor):
        super().__init__()
        self.a = nn.Parameter(a)

    def forward(self, ws: Tensor, noise: LayerNoise) -> Tensor:
        return (ws[:, 0] @ self.a.T).unflatten(1, (1, 3, 3))


def linear() -> StyleGenerator:
    torch.manual_seed(0)
    return StyleGenerator(StyleMapping(4, 4, 1), Linear(torch.randn(9, 4)), 4).double()


def test_a_picture_out_of_reach_gets_its_nearest() -> None:
    """Least squares, for a linear generator."""
    net, x = linear(), torch.randn(3, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    a = net.synthesis.get_parameter("a").detach()
    best = torch.linalg.lstsq(a, x.flatten(1).T).solution.T
    found = invert(net, x, search=Search(steps=400))
    assert torch.allclose(found.ws[:, 0], best, atol=1e-3)


def test_a_perceptual_distance_joins_in() -> None:
    """|mean(y) - mean(x)|^2 with a large weight: the mean is met, whatever becomes of the rest."""
    net, x = linear(), torch.randn(2, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    search = Search(steps=400, perceptual=1000.0)
    found = invert(net, x, search=search, perceptual=lambda y, x: (y - x).mean((1, 2, 3)).square())
    plain = invert(net, x, search=Search(steps=400))
    assert torch.allclose(found.pictures.mean((1, 2, 3)), x.mean((1, 2, 3)), atol=2e-3)
    assert not torch.allclose(plain.pictures.mean((1, 2, 3)), x.mean((1, 2, 3)), atol=2e-2)


def test_mistakes_are_explained() -> None:
    net = linear()
    with pytest.raises(UsageError, match=r"\[1, 3, 3\].*\[3, 3, 3\]"):
        invert(net, torch.zeros(1, 3, 3, 3, dtype=torch.float64))
    with pytest.raises(UsageError, match="positive rate"):
        Search(lr=0.0)
    with pytest.raises(NumericalTrouble, match="diverged"):
        invert(net, torch.full((1, 1, 3, 3), float("inf"), dtype=torch.float64), search=Search(steps=3))


def test_the_rate_rises_and_falls() -> None:
    search = Search(steps=200, lr=0.1)
    rates = [search.rate(i) for i in range(200)]
    assert rates[0] == pytest.approx(0.01) and rates[100] == pytest.approx(0.1) and 0 < rates[-1] < 0.001
