"""The coordinates that a U-Net may be told: what they are, and what they change."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from huggingvis.nets.embeddings import coordinates
from huggingvis.nets.unet import UNet, UNetConfig, seeing_more


def test_they_are_sines_and_cosines_of_where_a_place_lies() -> None:
    where = coordinates(2, 4, 2)  # sin and cos of y in two octaves, then of x
    y, x = torch.tensor([-0.5, 0.5]), torch.tensor([-0.75, -0.25, 0.25, 0.75])
    assert where.shape == (8, 2, 4)
    assert torch.allclose(where[1], (2 * torch.pi * y).sin()[:, None].expand(2, 4), atol=1e-6)
    assert torch.allclose(where[6], (torch.pi * x).cos().expand(2, 4), atol=1e-6)


def test_a_net_of_convolutions_knows_where_it_is_only_with_them() -> None:
    """Far from the border, an even plane gives an even answer; with coordinates it need not."""
    torch.manual_seed(0)
    x, inner = torch.ones(1, 3, 32, 32), slice(14, 18)
    spread = {}
    for octaves in (0, 2):
        net = UNet(UNetConfig(channels=(8,), blocks=1, attention=(0,), middle=0, groups=4, octaves=octaves))
        nn.init.normal_(net.conv_out.weight)
        out = net(x, torch.tensor([0.5]), {})[0, :, inner, inner]  # [3, 4, 4]
        spread[octaves] = float((out - out[:, :1, :1]).detach().abs().max())
    assert spread[0] < 1e-5 and spread[2] > 1e-2


def test_weights_of_a_net_without_them_start_one_that_is_told_them() -> None:
    sizes = UNetConfig(channels=(8,), blocks=1, attention=(0,), middle=0, groups=4)
    before, after = UNet(sizes), UNet(replace(sizes, octaves=2))
    after.load_state_dict(seeing_more(before.state_dict(), after))
    x, clock = torch.randn(2, 3, 8, 8), torch.tensor([0.1, 0.9])
    assert torch.allclose(before(x, clock, {}), after(x, clock, {}), atol=1e-6)
    after.load_state_dict(seeing_more(after.state_dict(), after))  # nothing to add
