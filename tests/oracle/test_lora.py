"""Every change against its formula and against peft; merged, live and removed."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from lora_cases import changes, host, seeded
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.adapters.lora import LoraSet
from huggingvis.adapters.lora_factors import Factors, Full, Layer, LowRank, Rescaled
from huggingvis.adapters.lora_lycoris import Hadamard
from huggingvis.checkpoints.lora_formats import read
from huggingvis.checkpoints.lora_formats_fit import fit
from huggingvis.core.errors import UsageError
from huggingvis.nets.unet import UNet, UNetConfig

LINEAR, CONV, POINT = (4, 8), (4, 8, 3, 3), (4, 8, 1, 1)
SHAPES = {"linear": LINEAR, "convolution": CONV, "1x1": POINT}


def by_hand(change: Any, weight: Tensor) -> Tensor:
    """The formula of each kind, number by number, as LyCORIS and peft define it."""
    if isinstance(change, Full):
        return change.diff.reshape(weight.shape)
    if isinstance(change, Rescaled):
        return rescaled(change, weight) - weight
    entry = low_rank if isinstance(change, LowRank) else hadamard if isinstance(change, Hadamard) else kronecker
    delta = weight.flatten(2) if weight.ndim > 2 else weight[..., None]
    delta = torch.zeros_like(delta)  # [O, I, K]
    for o, i, k in itertools.product(*map(range, delta.shape)):
        delta[o, i, k] = entry(change, tuple(delta.shape), o, i, k)
    rank = {"LowRank": lambda: change.down, "Hadamard": lambda: change.w1_b}.get(
        type(change).__name__, lambda: change.w2_b if change.w2_b is not None else change.w1_b
    )()
    return (1.0 if change.alpha is None else change.alpha / len(rank)) * delta.reshape(weight.shape)


def rescaled(change: Rescaled, weight: Tensor) -> Tensor:
    new = weight + by_hand(change.of, weight)
    rows = change.magnitude.shape[0] == len(weight)
    for i, length in enumerate(change.magnitude.reshape(-1)):
        part = new[i] if rows else new[:, i]
        part.mul_(length / part.square().sum().sqrt())
    return new


def low_rank(change: Any, shape: tuple[int, ...], o: int, i: int, k: int) -> Tensor:
    up = change.up.flatten(1)
    if change.mid is None:
        return sum(up[o, r] * change.down.reshape(-1, *shape[1:])[r, i, k] for r in range(change.rank))
    return up[o] @ change.mid.flatten(2)[:, :, k] @ change.down.flatten(1)[:, i]


def hadamard(change: Any, shape: tuple[int, ...], o: int, i: int, k: int) -> Tensor:
    sides = ((change.w1_a, change.w1_b, change.t1), (change.w2_a, change.w2_b, change.t2))
    one, two = (
        a[o] @ b.reshape(-1, *shape[1:])[:, i, k] if t is None else a[:, o] @ t.flatten(2)[:, :, k] @ b[:, i]
        for a, b, t in sides
    )
    return one * two


def kronecker(change: Any, shape: tuple[int, ...], o: int, i: int, k: int) -> Tensor:
    first = change.w1 if change.w1 is not None else change.w1_a @ change.w1_b
    b, d = shape[0] // first.shape[0], shape[1] // first.shape[1]
    if change.w2 is not None:
        second = change.w2.reshape(b, d, -1)[o % b, i % d, k]
    elif change.t2 is not None:
        second = change.w2_a[:, o % b] @ change.t2.flatten(2)[:, :, k] @ change.w2_b[:, i % d]
    else:
        second = change.w2_a[o % b] @ change.w2_b.reshape(-1, d, shape[2])[:, i % d, k]
    return first[o // b, i // d] * second


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_change_is_its_formula(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    for kind, change in changes(shape, dtype=torch.float64).items():
        assert change.fits(shape), kind
        for other in ((shape[0] + 4, *shape[1:]), (shape[0], shape[1] + 4, *shape[2:])):
            assert not change.fits(other), (kind, other)
        torch.testing.assert_close(change.delta(weight), by_hand(change, weight), rtol=1e-12, atol=1e-13, msg=kind)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("how", [LINEAR, (CONV, 1), (CONV, 2), POINT], ids=["linear", "3x3", "3x3 stride 2", "1x1"])
def test_the_live_product_is_the_merged_one(how: Any, dtype: torch.dtype) -> None:
    shape, stride = how if isinstance(how[0], tuple) else (how, 1)
    near = 1e-6 if dtype is torch.float32 else 1e-14
    if len(shape) == 2:
        layer: nn.Module = nn.Linear(8, 4)
        x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    else:
        layer = nn.Conv2d(8, 4, shape[2], stride, padding=shape[2] // 2)
        x = torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(1)).to(dtype)
    layer = layer.to(dtype).requires_grad_(False)
    for kind, change in changes(shape, dtype=dtype).items():
        out = {}
        for merged in (True, False):
            handle = LoraSet(({"weight": change}, 0.7)).attach(layer, 0.9, merged=merged)
            out[merged] = layer(x)
            handle.remove()
        off = float((out[True] - out[False]).abs().max() / out[True].abs().max())
        assert off < near, (kind, off)
        assert not torch.equal(out[True], layer(x)), kind


def unet() -> UNet:
    config = UNetConfig(4, 4, channels=(8, 16), attention=(0, 1), groups=4, heads=2, tokens_dim=12, blocks=1)
    return seeded(UNet, config).eval().requires_grad_(False)


def pictures(net: nn.Module) -> Tensor:
    rng = torch.Generator().manual_seed(3)
    x, tokens = torch.randn(2, 4, 8, 8, generator=rng), torch.randn(2, 5, 12, generator=rng)
    with torch.no_grad():
        return net(x, torch.tensor([3.0, 700.0]), {"tokens": tokens})


def lora_of(net: nn.Module, seed: int) -> dict[str, Factors]:
    """A change of every tensor of `net`, of all kinds in turn."""
    out: dict[str, Factors] = {}
    for number, (name, parameter) in enumerate(net.named_parameters()):
        shape = tuple(parameter.shape)
        even = len(shape) > 1 and shape[0] % 4 == 0 and shape[1] % 4 == 0
        if not even:
            out[name] = Full(0.01 * torch.randn(shape, generator=torch.Generator().manual_seed(seed + number)))
            continue
        possible = list(changes(shape, seed + number).values())
        change = possible[number % len(possible)]
        scaled = change.of if isinstance(change, Rescaled) else change
        out[name] = LowRank(0.1 * scaled.up, 0.1 * scaled.down) if isinstance(scaled, LowRank) else change
    return out


def test_on_a_whole_net_merged_is_live_and_removal_gives_the_bits_back() -> None:
    net = unet()
    before = {name: x.clone() for name, x in net.state_dict().items()}
    plain = pictures(net)
    first = {n: c for n, c in lora_of(net, 10).items() if isinstance(c, LowRank | Full)}
    second = {n: c for n, c in lora_of(net, 500).items() if isinstance(c, LowRank)}
    chosen = LoraSet((first, 0.3), (second, -0.2))
    made = {}
    for merged in (True, False):
        handle = chosen.attach(net, merged=merged)
        made[merged] = pictures(net)
        assert list(net.state_dict()) == list(before)
        handle.remove()
        handle.remove()
        assert all(torch.equal(x, before[name]) for name, x in net.state_dict().items())
        assert torch.equal(pictures(net), plain)
    assert float((made[True] - made[False]).abs().max() / made[True].abs().max()) < 2e-6
    assert float((made[True] - plain).abs().max() / plain.abs().max()) > 0.01


def test_removals_in_any_order_leave_what_the_rest_alone_would_make() -> None:
    net = unet().bfloat16()
    before = {name: x.clone() for name, x in net.state_dict().items()}
    sets = [LoraSet((lora_of(net, 100 * n), 0.1 * n)) for n in (1, 2, 3)]
    alone: dict[tuple[int, ...], dict[str, Tensor]] = {}
    for pair in itertools.combinations(range(3), 2):
        handles = [sets[n].attach(net) for n in pair]
        alone[pair] = {name: x.clone() for name, x in net.state_dict().items()}
        for handle in handles:
            handle.remove()
    for order in itertools.permutations(range(3)):
        handles = [chosen.attach(net) for chosen in sets]
        handles[order[0]].remove()
        left = alone[tuple(sorted(order[1:]))]
        assert all(torch.equal(x, left[name]) for name, x in net.state_dict().items())
        for number in order[1:]:
            handles[number].remove()
        assert all(torch.equal(x, before[name]) for name, x in net.state_dict().items())


@pytest.mark.parametrize("merged", [True, False])
def test_nothing_changes_nothing(merged: bool) -> None:
    net = unet()
    plain, weights = pictures(net), {name: x.clone() for name, x in net.state_dict().items()}
    some = lora_of(net, 1)
    for nothing in (LoraSet(), LoraSet(({}, 1.0)), LoraSet((some, 0.0)), LoraSet((some, 1.0))):
        handle = nothing.attach(net, 0.0 if nothing.loras and nothing.loras[0][1] else 1.0, merged=merged)
        assert torch.equal(pictures(net), plain)
        assert all(torch.equal(x, weights[name]) for name, x in net.state_dict().items())
        handle.remove()
    zero = {n: LowRank(0 * c.up, c.down) for n, c in some.items() if isinstance(c, LowRank)}
    assert len(zero) > 3
    handle = LoraSet((zero, 1.0)).attach(net, merged=merged)
    assert torch.equal(pictures(net), plain)
    handle.remove()


def test_strengths_by_name_and_a_net_that_moves_meanwhile() -> None:
    net = unet()
    some = lora_of(net, 1)
    here = {n: c for n, c in some.items() if n.startswith("up.")}
    handle = LoraSet((some, 1.0)).attach(net, lambda name: 0.5 if name.startswith("up.") else 0.0)
    part = {name: x.clone() for name, x in net.state_dict().items()}
    handle.remove()
    handle = LoraSet((here, 0.5)).attach(net)
    assert all(torch.equal(x, part[name]) for name, x in net.state_dict().items())
    net.double()
    handle.remove()
    again = unet().double().state_dict()
    assert all(torch.equal(x, again[name]) for name, x in net.state_dict().items())


def test_a_tied_tensor_may_be_named_twice() -> None:
    first, second = nn.Linear(8, 4), nn.Linear(8, 4)
    second.weight = first.weight
    net = nn.Sequential(first, second)
    before = first.weight.detach().clone()
    lora = {f"{n}.weight": change for n, change in zip("01", (changes(LINEAR)["LoRA"], changes(LINEAR, 1)["LoHa"]))}
    handle = LoraSet((lora, 1.0)).attach(net)
    want = before + lora["0.weight"].delta(before) + lora["1.weight"].delta(before)
    torch.testing.assert_close(first.weight.detach(), want)
    assert second.weight is first.weight
    handle.remove()
    assert torch.equal(first.weight, before)


def test_a_live_layer_compiles_whole() -> None:
    """Every kind of change in one graph; what each computes is tested above."""
    net = nn.Sequential(nn.Conv2d(8, 4, 3, padding=1), nn.Flatten(2), nn.Linear(8, 4)).requires_grad_(False)
    loras = [{"0.weight": c} for c in changes(CONV).values()] + [{"2.weight": c} for c in changes(LINEAR).values()]
    handle = LoraSet(*((lora, 0.1) for lora in loras)).attach(net, merged=False)
    x = torch.randn(2, 8, 2, 4, generator=torch.Generator().manual_seed(0))
    want = net(x)
    assert torch.equal(torch.compile(net, backend="eager", fullgraph=True)(x), want)
    handle.remove()


def test_what_cannot_be_attached_is_refused_before_anything_changes() -> None:
    net = unet()
    before = {name: x.clone() for name, x in net.state_dict().items()}
    good = lora_of(net, 1)
    with pytest.raises(UsageError, match="conv_im.weight.*conv_in.weight"):
        LoraSet((good | {"conv_im.weight": good["conv_in.weight"]}, 1.0)).attach(net)
    with pytest.raises(UsageError, match=r"LowRank for 'conv_in.weight'.*\[8, 4, 3, 3\]"):
        LoraSet((good | {"conv_in.weight": LowRank(torch.ones(8, 2), torch.ones(2, 5))}, 1.0)).attach(net)
    with pytest.raises(UsageError, match="finite"):
        LoraSet((good, float("nan")))
    with pytest.raises(UsageError, match="meta device"):
        LoraSet((good, 1.0)).attach(UNet(net.config).to("meta"))
    assert all(torch.equal(x, before[name]) for name, x in net.state_dict().items())


class Small(nn.Module):
    """A linear layer after two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.point, self.linear = nn.Conv2d(8, 16, 3, padding=1), nn.Conv2d(16, 16, 1), nn.Linear(16, 24)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(F.silu(self.point(F.silu(self.conv(x)))).mean((2, 3)))


PEFT: dict[str, tuple[str, dict[str, Any]]] = {
    "LoRA": ("LoraConfig", {"r": 4, "lora_alpha": 6}),
    "rsLoRA by layer": ("LoraConfig", {"r": 4, "lora_alpha": 6, "use_rslora": True, "rank_pattern": {"conv": 2},
                                       "alpha_pattern": {"linear": 1}}),
    "LoRA with bias": ("LoraConfig", {"r": 4, "lora_alpha": 6, "lora_bias": True}),
    "DoRA": ("LoraConfig", {"r": 4, "lora_alpha": 6, "use_dora": True}),
    "LoHa": ("LoHaConfig", {"r": 4, "alpha": 6}),
    "LoHa around cores": ("LoHaConfig", {"r": 4, "alpha": 6, "use_effective_conv2d": True}),
    "LoKr": ("LoKrConfig", {"r": 1, "alpha": 3}),
    "LoKr both low": ("LoKrConfig", {"r": 1, "alpha": 3, "decompose_both": True, "decompose_factor": 4}),
    "LoKr whole": ("LoKrConfig", {"r": 16, "alpha": 3, "rank_pattern": {"conv": 12}}),
    "LoKr around a core": ("LoKrConfig", {"r": 1, "alpha": 3, "use_effective_conv2d": True}),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Adapter 'default'")  # that a bias has one dimension
@pytest.mark.parametrize("kind", PEFT)
def test_as_peft_computes_it(kind: str, tmp_path: Path) -> None:
    import peft

    name, settings = PEFT[kind]
    ours = seeded(Small).requires_grad_(False)
    theirs = peft.get_peft_model(
        seeded(Small), getattr(peft, name)(target_modules=["conv", "point", "linear"], **settings)
    ).eval()
    rng = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for tensor, parameter in theirs.named_parameters():
            if parameter.requires_grad:
                drawn = torch.randn(parameter.shape, generator=rng)
                parameter.copy_(drawn.abs() + 0.5 if "magnitude" in tensor else 0.5 * drawn)
    theirs.save_pretrained(tmp_path / "adapter")
    file = read(tmp_path / "adapter")
    fitted = fit(file, {"net": host(ours)})
    assert fitted.report == "" and len(fitted.parts["net"]) == (6 if "bias" in kind else 3)
    x = torch.randn(3, 8, 6, 6, generator=rng)
    with torch.no_grad():
        want = theirs(x)
        assert float((ours(x) - want).abs().max() / want.abs().max()) > 1e-2
        for merged in (True, False):
            handle = LoraSet((fitted.parts["net"], 1.0)).attach(ours, merged=merged)
            off = float((ours(x) - want).abs().max() / want.abs().max())
            handle.remove()
            assert off < 1e-6, off


def test_a_layer_with_groups_takes_the_whole_kernel() -> None:
    layer = nn.Conv2d(8, 8, 3, padding=1, groups=4).requires_grad_(False)
    change = LowRank(torch.ones(8, 2, 1, 1), torch.arange(36.0).reshape(2, 2, 3, 3))
    x = torch.randn(1, 8, 5, 5, generator=torch.Generator().manual_seed(0))
    want = F.conv2d(x, change.delta(layer.weight), None, padding=1, groups=4)
    assert torch.equal(change.live(x, Layer(layer)), want)
