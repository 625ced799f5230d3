"""Tensors enter a module exactly or not at all, and the refusal is one paragraph."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from huggingvis.checkpoints.assign import empty
from huggingvis.checkpoints.io import assign
from huggingvis.core.errors import FileProblem


def first_weight(net: nn.Sequential) -> nn.Parameter:
    return net.get_parameter("0.weight")


def tower(width: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, 2))


def test_assign_to_meta_takes_the_tensors_themselves() -> None:
    source = tower().half().state_dict()
    with torch.device("meta"):
        net = tower()
    assert not assign(net, source)
    weight = first_weight(net)
    assert weight.data_ptr() == source["0.weight"].data_ptr() and weight.dtype == torch.float16
    assert weight.requires_grad and isinstance(weight, nn.Parameter)


def test_assign_to_a_living_module_copies() -> None:
    source, net = tower().state_dict(), tower().double()
    held = first_weight(net)
    assign(net, source)
    assert held is first_weight(net) and held.dtype == torch.float64 and held.float().equal(source["0.weight"])


def test_a_mismatch_is_one_paragraph_and_changes_nothing() -> None:
    source = {f"extra.{i}": torch.ones(1) for i in range(9)} | tower(5).state_dict()
    del source["2.bias"]
    net = tower()
    before = first_weight(net).clone()
    with pytest.raises(FileProblem) as caught:
        assign(net, source)
    message = str(caught.value)
    assert "1 missing (2.bias)" in message and "9 unexpected (extra.0, extra.1, extra.2, extra.3, ...)" in message
    assert "0.weight is [4, 3] here, [5, 3] there" in message and "7 of another shape" in message
    assert "\n" not in message and first_weight(net).equal(before)


@pytest.mark.parametrize("kind", [torch.int64, torch.complex64])
def test_weights_that_are_no_real_numbers_are_refused(kind: torch.dtype) -> None:
    net = tower()
    before = first_weight(net).clone()
    with pytest.raises(FileProblem, match=f"no real numbers but {kind}"):
        assign(net, {name: value.to(kind) for name, value in tower().state_dict().items()})
    assert first_weight(net).equal(before)


def test_not_strict_reports_but_leaves_nothing_empty() -> None:
    source = {k: v for k, v in tower().state_dict().items() if not k.startswith("2.")} | {"more": torch.ones(1)}
    differ = assign(tower(), source, strict=False)
    assert (differ.missing, differ.unexpected) == (("2.weight", "2.bias"), ("more",))
    with torch.device("meta"):
        net = tower()
    with pytest.raises(FileProblem, match=r"2 tensors without values \(2.weight, 2.bias\)"):
        assign(net, source, strict=False)


def test_tied_parameters_stay_tied() -> None:
    def tied() -> nn.Sequential:
        net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
        net[1].weight = net[0].weight
        return net

    with torch.device("meta"):
        net = tied()
    w = torch.randn(4, 4)
    assign(net, {"1.weight": w})
    assert net[0].weight is net[1].weight and first_weight(net).equal(w)


def asserting() -> nn.Module:
    raise AssertionError


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (lambda: nn.GroupNorm(0, 8), "zero"),
        (lambda: nn.Linear(2, 1.5), r"float"),  # type: ignore[arg-type]
        (lambda: nn.Linear(2, -1), "negative"),
        (asserting, "AssertionError"),
    ],
)
def test_sizes_that_make_no_net_are_refused_in_words(build: Callable[[], nn.Module], why: str) -> None:
    with pytest.raises(FileProblem, match=rf"make no network: .*{why}.*\. The file that tells .* get it again\.$"):
        empty(build)
    with pytest.raises(FileProblem, match=r"make no network: .*\. Say its groups\.$"):
        empty(build, "Say its groups.")
