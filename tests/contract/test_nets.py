"""Every network of the library, found through the catalogue, in a tiny instance: one test body for all of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from net_cases import CASES, Draw, Inputs
from torch import Tensor, nn

from huggingvis.core import catalog
from huggingvis.core.taps import sites
from huggingvis.nets.attention import Attention

every_net = pytest.mark.parametrize("name", CASES)


@cache
def built(name: str) -> nn.Module:
    """The net with weights away from their initial zeros and ones; float32. Shared: a test that casts it, copies it."""
    torch.manual_seed(0)
    net = CASES[name].build().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return net


def cast(net: str, dtype: torch.dtype) -> nn.Module:
    fresh = CASES[net].build().eval()
    fresh.load_state_dict(built(net).state_dict())
    return fresh.to(dtype)


def drawn(name: str, seed: int = 1) -> Inputs:
    return CASES[name].inputs(Draw(torch.Generator().manual_seed(seed)))


def each(change: Callable[..., Tensor], *inputs: Inputs) -> Inputs:
    """`change` applied to the tensors that stand in one place of all `inputs`."""

    def at(items: tuple[Any, ...]) -> Any:
        if isinstance(items[0], dict):
            return {key: change(*(item[key] for item in items)) for key in items[0]}
        return change(*items)

    return tuple(at(items) for items in zip(*inputs, strict=True))


def to(inputs: Inputs, dtype: torch.dtype) -> Inputs:
    return each(lambda x: x.to(dtype) if x.dtype == torch.float32 else x, inputs)


def outputs(name: str, net: nn.Module, inputs: Inputs) -> list[Tensor]:
    out = CASES[name].call(net, *inputs)
    return [x for x in (out if isinstance(out, tuple) else (out,)) if x.is_floating_point()]


def gap(a: Tensor, b: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float((a.double() - b.double()).abs().max() / b.double().abs().max())


def test_every_network_has_a_case() -> None:
    covered = {type(module) for name in CASES for module in built(name).modules()}
    public = [entry.load() for entry in catalog.entries("nets") if entry.kind == "class"]
    networks = [kind for kind in public if issubclass(kind, nn.Module)]
    assert len(networks) > 20
    assert not {kind.__qualname__ for kind in networks if kind not in covered}, "add a row to CASES for these"


@every_net
def test_shapes(name: str) -> None:
    with torch.no_grad():
        assert tuple(tuple(x.shape) for x in outputs(name, built(name), drawn(name))) == CASES[name].shapes


@every_net
def test_every_parameter_learns(name: str) -> None:
    net = cast(name, torch.float64)
    inputs = to(drawn(name), torch.float64)
    sum((x * torch.randn_like(x)).sum() for x in outputs(name, net, inputs)).backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        if not key.endswith("to_k.bias"):  # it shifts all scores of a row alike, which softmax does not see
            assert parameter.grad.abs().max() > 1e-9, key


@every_net
@torch.no_grad()
def test_precisions_agree(name: str) -> None:
    want = outputs(name, built(name), drawn(name))
    wide = outputs(name, cast(name, torch.float64), to(drawn(name), torch.float64))
    for x, y in zip(wide, want, strict=True):
        assert x.dtype == torch.float64 and gap(y, x) < 1e-4
    with torch.autocast("cpu", torch.bfloat16):
        mixed = outputs(name, built(name), drawn(name))
    for x, y in zip(mixed, want, strict=True):
        assert gap(x, y) < 0.06
    for x in outputs(name, cast(name, torch.bfloat16), to(drawn(name), torch.bfloat16)):
        assert x.dtype == torch.bfloat16 and x.isfinite().all()


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.mixes])
@torch.no_grad()
def test_samples_of_a_batch_do_not_see_each_other(name: str) -> None:
    net, inputs = cast(name, torch.float64), to(drawn(name), torch.float64)
    others = each(lambda a, b: torch.cat([a[:1], b[1:]]), inputs, to(drawn(name, seed=2), torch.float64))
    alone = each(lambda a: a[:1], inputs)
    together, changed, single = (outputs(name, net, i) for i in (inputs, others, alone))
    for x, y, z in zip(together, changed, single, strict=True):
        assert gap(y[:1], x[:1]) < 1e-10 and gap(z, x[:1]) < 1e-10
        assert gap(y[1:], x[1:]) > 1e-3  # the inputs do matter


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.pad])
@torch.no_grad()
def test_padding_changes_nothing(name: str) -> None:
    pad = CASES[name].pad
    assert pad is not None
    inputs = drawn(name)
    for x, y in zip(outputs(name, built(name), inputs), outputs(name, built(name), pad(*inputs)), strict=True):
        assert gap(y[tuple(slice(n) for n in x.shape)], x) < 1e-6


@every_net
def test_attention_is_where_taps_can_reach_it(name: str) -> None:
    net = built(name)
    attending = {key for key, module in net.named_modules() if isinstance(module, Attention)}
    assert attending == set(sites(net)) and all(site.taps == () for site in sites(net).values())
