"""Ports of the U-Net: nothing attached changes no bit, what providers bring adds up, and features go on from there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from diffusers_nets import SD1, SDXL, draw, reference, relative, same_tensors
from torch import Tensor

from huggingvis.checkpoints import diffusers_unet
from huggingvis.core.errors import UsageError
from huggingvis.core.ports import provide
from huggingvis.core.protocols import Cond
from huggingvis.nets.unet import UNet, UNetConfig

CONFIG = UNetConfig(channels=(8, 16), blocks=1, attention=(1, 0), groups=4, heads=2, tokens_dim=6)
CLOCK = torch.tensor([3.0, 977.0])


@dataclass(eq=False)
class Brings:
    """A provider of one tensor, which doubles what is there already."""

    port: str
    value: Tensor
    calls: int = 0

    def __call__(self, x: Tensor, clock: Tensor, cond: Cond) -> Cond:
        self.calls += 1
        return {**cond, self.port: self.value + 2 * cond.get(self.port, torch.zeros(()))}


def net_and_inputs() -> tuple[UNet, tuple[Tensor, Tensor, dict[str, Tensor]]]:
    torch.manual_seed(0)
    net = UNet(CONFIG).eval().requires_grad_(False)
    return net, (draw(2, 3, 8, 8), CLOCK, {"tokens": draw(2, 5, 6)})


def test_providers_are_asked_in_order_and_removed_exactly() -> None:
    net, inputs = net_and_inputs()
    want, before = net(*inputs), dict(net.state_dict())
    one, two = Brings("residuals.1", draw(2, 8, 8, 8)), Brings("residuals.1", draw(1, 8, 8, 8))
    by_hand = net(*inputs[:2], inputs[2] | {"residuals.1": two.value + 2 * one.value})
    handles = [provide(net, "one", one), provide(net, "two", two)]
    assert torch.equal(net(*inputs), by_hand) and one.calls == two.calls == 1
    assert same_tensors(dict(net.state_dict()), before)
    for handle in handles:
        handle.remove()
    assert not torch.equal(by_hand, want) and torch.equal(net(*inputs), want) and net.providers == ()
    provide(net, "one", one)
    with pytest.raises(UsageError, match="'one' is attached to this UNet already"):
        provide(net, "one", one)


def test_features_are_the_residual_of_the_state_that_goes_on() -> None:
    """At the middle both ports are one; at the last skip features change the middle too, residuals do not."""
    net, inputs = net_and_inputs()
    middle, last = draw(2, 16, 4, 4), len(net.widths) - 1

    def run(port: str) -> Tensor:
        return net(*inputs[:2], inputs[2] | {port: middle})

    assert torch.equal(run(f"features.{last + 1}"), run(f"residuals.{last + 1}"))
    assert relative(run(f"features.{last}"), run(f"residuals.{last}")) > 1e-3
    h, skips, _ = net.descend(*inputs[:2], inputs[2] | {f"features.{last}": middle})
    assert torch.equal(skips[last], net.descend(*inputs)[1][last] + middle) and not torch.equal(h, skips[last])
    assert [skip.shape[1] for skip in skips] == list(net.widths)


@pytest.mark.parametrize("settings", [SD1, SDXL], ids=["sd1", "sdxl"])
def test_guidance_port_is_their_timestep_cond(settings: dict[str, object], tmp_path: Path) -> None:
    from diffusers import LatentConsistencyModelPipeline

    theirs = reference("UNet2DConditionModel", settings | {"time_cond_proj_dim": 10})
    theirs.save_pretrained(tmp_path / "in")
    ours = diffusers_unet.from_diffusers(tmp_path / "in")
    x, tokens, scale = draw(2, 4, 8, 8), draw(2, 7, 6), torch.tensor([8.5, 1.0])
    wave = LatentConsistencyModelPipeline.get_guidance_scale_embedding(None, scale - 1, embedding_dim=10)
    cond, extra = {"tokens": tokens, "guidance": scale}, {}
    if "addition_embed_type" in settings:
        pooled = draw(2, 5)
        extra = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": torch.zeros(2, 6)}}
        cond["vector"] = torch.cat([pooled, torch.tensor([1.0, 1, 0, 0] * 6).expand(2, -1)], dim=1)
    want = theirs(x, CLOCK, tokens, timestep_cond=wave, **extra).sample
    assert relative(ours(x, CLOCK, cond), want) < 1e-5
    assert relative(ours(x, CLOCK, cond | {"guidance": scale + 1}), want) > 1e-3
    again = diffusers_unet.to_diffusers(ours, tmp_path / "out")
    assert same_tensors(dict(diffusers_unet.from_diffusers(again).state_dict()), dict(ours.state_dict()))
    assert ours.config.guidance_dim == 10
