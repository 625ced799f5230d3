"""Attention against its definition, taps that change nothing, and the replacement that training on CPUs uses."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from huggingvis.core import ops
from huggingvis.core.errors import UsageError
from huggingvis.core.ops import long_attention
from huggingvis.core.ops.attention import usual
from huggingvis.core.ops.long_attention import LONG, MAP_AT_A_TIME, by_rows
from huggingvis.core.ops.registry import implementation, replace
from huggingvis.core.taps import OutputTap, ProbsTap, QKVTap, Site, attach, sites
from huggingvis.nets.attention import Attention
from huggingvis.nets.unet import UNet, UNetConfig
from huggingvis.runtime.attention import LONGEST_MAP, for_training, matmul_attention, short_attention

CPU = torch.device("cpu")


def drawn(dtype: torch.dtype, queries: int = 7, keys: int = 5, grad: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    lengths = (queries, keys, keys)
    return tuple(  # type: ignore[return-value]
        torch.randn(2, 3, n, 8, generator=rng).to(dtype).requires_grad_(grad) for n in lengths
    )


def masks(queries: int, keys: int) -> dict[str, Tensor | None]:
    """None, per key, per query and key, one where a query sees nothing at all, and numbers added to the scores."""
    rng = torch.Generator().manual_seed(1)
    full = torch.rand(2, 1, queries, keys, generator=rng) < 0.5
    full[..., 0] = True
    blind = full.clone()
    blind[1, :, 2] = False
    numbers = torch.randn(1, 3, queries, keys, generator=rng, dtype=torch.float64)
    return {"none": None, "keys": full[:, :, :1], "causal": torch.ones(queries, keys).tril().bool(), "blind": blind,
            "numbers": numbers, "blind numbers": numbers.masked_fill(~blind, float("-inf"))}  # fmt: skip


def definition(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Row by row, key by key, in float64."""
    q, k, v = q.double(), k.double(), v.double()
    out = torch.zeros_like(q)
    mask = torch.ones((), dtype=torch.bool) if mask is None else mask
    factors = mask.double() if mask.dtype is torch.bool else mask.double().exp()
    factors = factors.expand(*q.shape[:3], k.shape[2])
    for b, h, i in torch.cartesian_prod(*(torch.arange(n) for n in q.shape[:3])).tolist():
        scores = [q[b, h, i] @ key / q.shape[-1] ** 0.5 for key in k[b, h]]
        weights = [torch.exp(score) * factors[b, h, i, j] for j, score in enumerate(scores)]
        total = sum(weights)
        if total > 0:
            out[b, h, i] = sum(w * v[b, h, j] for j, w in enumerate(weights)) / total
    return out


def sees(mask: Tensor) -> Tensor:
    return mask if mask.dtype is torch.bool else mask > float("-inf")


@pytest.mark.parametrize("kind", ["none", "keys", "causal", "blind", "numbers", "blind numbers"])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_every_way_is_the_definition(kind: str, dtype: torch.dtype, near: float) -> None:
    q, k, v = drawn(dtype)
    mask = masks(7, 5)[kind]
    mask = mask if mask is None or mask.dtype is torch.bool else mask.to(dtype)
    want = definition(q, k, v, mask)
    ways = (ops.attention(q, k, v, mask), ops.attention_with_probs(q, k, mask) @ v, matmul_attention(q, k, v, mask),
            short_attention(q, k, v, mask))  # fmt: skip
    for out in ways:
        assert out.dtype == dtype and float((out.double() - want).abs().max()) < near


@pytest.mark.parametrize("kind", ["none", "keys", "blind", "numbers", "blind numbers"])
def test_gradients_agree(kind: str) -> None:
    mask = masks(7, 5)[kind]
    found = []
    for way in (ops.attention, matmul_attention, lambda q, k, v, m: ops.attention_with_probs(q, k, m) @ v):
        q, k, v = drawn(torch.float64, grad=True)
        found.append(torch.autograd.grad((way(q, k, v, mask) * torch.arange(8.0)).sum(), (q, k, v)))
    for other in found[1:]:
        for x, y in zip(found[0], other, strict=True):
            assert y.isfinite().all() and float((x - y).abs().max()) < 1e-12


def test_rows_of_the_map_sum_to_one() -> None:
    q, k, _ = drawn(torch.float64)
    for kind, mask in masks(7, 5).items():
        probs = ops.attention_with_probs(q, k, mask)
        sums = probs.sum(-1)
        want = torch.ones_like(sums)
        if "blind" in kind:
            want[1, :, 2] = 0
        assert float((sums - want).abs().max()) < 1e-12
        assert mask is None or not probs.masked_select(~sees(mask).expand_as(probs)).any()


CONFIG = UNetConfig(channels=(8, 16), blocks=1, attention=(0, 1), groups=4, heads=2, tokens_dim=6)


def net_and_inputs() -> tuple[UNet, tuple[Tensor, Tensor, dict[str, Tensor]]]:
    torch.manual_seed(0)
    net = UNet(CONFIG).eval().requires_grad_(False)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    cond = {"tokens": torch.randn(2, 5, 6), "tokens_mask": mask}
    return net, (torch.randn(2, 3, 8, 8), torch.tensor([3.0, 800.0]), cond)


class SameQKV(QKVTap):
    def qkv(self, site: Site, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return q, k, v


class SameOutput(OutputTap):
    def output(self, site: Site, out: Tensor) -> Tensor:
        return out


@dataclass(eq=False)
class Store(ProbsTap):
    """Keeps every map it sees."""

    maps: dict[Site, Tensor] = field(default_factory=dict)

    def probs(self, site: Site, probs: Tensor) -> Tensor:
        self.maps[site] = probs
        return probs


class NoText(ProbsTap):
    """Cross-attention looks at the first token only."""

    def probs(self, site: Site, probs: Tensor) -> Tensor:
        return torch.zeros_like(probs).index_fill(-1, torch.tensor([0]), 1.0)


@pytest.mark.parametrize("tap", [SameQKV(), SameOutput()], ids=["qkv", "output"])
def test_identity_taps_keep_every_bit(tap: QKVTap | OutputTap) -> None:
    net, inputs = net_and_inputs()
    want = net(*inputs)
    handle = attach(net, tap)
    assert torch.equal(net(*inputs), want)
    handle.remove()
    assert all(site.taps == () for site in sites(net).values()) and torch.equal(net(*inputs), want)


def test_a_store_sees_every_map_and_changes_nothing() -> None:
    net, inputs = net_and_inputs()
    want, store = net(*inputs), Store()
    handle = attach(net, store)
    got = net(*inputs)
    assert float((got - want).abs().max() / want.abs().max()) < 1e-6
    assert {site.name for site in store.maps} == set(sites(net)) and len(store.maps) == 8
    for site, probs in store.maps.items():
        assert site.cross == site.name.endswith("attn2")
        assert probs.shape == (2, 2, 16, 5 if site.cross else 16)
        assert float((probs.sum(-1) - 1).abs().max()) < 1e-6
        assert not site.cross or not probs[1, :, :, 3:].any()  # padding is never looked at
    handle.remove()
    assert torch.equal(net(*inputs), want)


def test_a_tap_acts_only_where_it_was_put() -> None:
    net, inputs = net_and_inputs()
    want = net(*inputs)
    x, clock, cond = inputs
    handle = attach(net, NoText(), "*attn2")
    tapped = net(*inputs)
    assert float((tapped - want).abs().max()) > 1e-4
    only_first = {"tokens": cond["tokens"][:, :1], "tokens_mask": cond["tokens_mask"][:, :1]}
    kept, store = Store(), Store()
    handles = [attach(net, kept, "middle*attn2"), attach(net, store, "up*")]
    net(*inputs)
    assert [site.name for site in kept.maps] == ["middle.attention.0.blocks.0.attn2"] and len(store.maps) == 4
    for other in handles:
        other.remove()
    assert torch.equal(net(*inputs), tapped)
    handle.remove()
    assert float((net(x, clock, only_first) - tapped).abs().max()) < 1e-6


def test_unknown_sites_are_told_the_nearest() -> None:
    net, _ = net_and_inputs()
    with pytest.raises(UsageError, match=r"middle\.attention\.0\.blocks\.0\.attn2"):
        attach(net, SameQKV(), "midle.attention.0.blocks.0.attn2")


def test_replacement_is_honoured_and_undone() -> None:
    layer, x = Attention(8, 2).requires_grad_(False), torch.randn(2, 3, 8)
    want, calls = layer(x), []

    def counting(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        calls.append(q.shape)
        return matmul_attention(q, k, v, mask)

    with ops.replace("attention", counting):
        with ops.replace("attention", lambda q, k, v, mask: torch.zeros_like(q)):
            assert torch.equal(layer(x), layer.to_out.bias.expand(2, 3, 8))
        assert float((layer(x) - want).abs().max()) < 1e-6 and calls == [(2, 2, 3, 4)]
    with pytest.raises(RuntimeError), ops.replace("attention", counting):
        raise RuntimeError
    assert torch.equal(layer(x), want) and len(calls) == 1


def test_an_untapped_net_calls_no_tap_code(monkeypatch: pytest.MonkeyPatch) -> None:
    net, inputs = net_and_inputs()
    assert all(type(site.taps) is tuple and not site.taps for site in sites(net).values())

    def refuse(*args: object) -> Tensor:
        raise AssertionError("tap code ran without a tap")

    monkeypatch.setattr(Attention, "_tapped", refuse)
    net(*inputs)
    attach(net, SameQKV(), "middle*")
    with pytest.raises(AssertionError, match="without a tap"):
        net(*inputs)


def test_the_choice_of_attention() -> None:
    def fused() -> Tensor:
        raise AssertionError

    def chosen() -> object:
        return implementation("attention", fused)

    half, single, cuda = torch.bfloat16, torch.float32, torch.device("cuda")
    with for_training(CPU, half):
        assert chosen() is short_attention
    for block in (for_training(CPU, single), for_training(cuda, half)):
        with block:
            assert chosen() is fused


def test_blocks_of_several_threads_end_in_any_order() -> None:
    def one() -> None: ...

    def other() -> None: ...

    def blocks(mine: Callable[[], None]) -> None:
        for _ in range(300):
            with replace("some", mine):
                assert implementation("some", print) in (one, other)

    first, second = replace("some", one), replace("some", other)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert implementation("some", print) is other
    second.__exit__(None, None, None)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(blocks, (one, other, one, other)))
    finally:
        sys.setswitchinterval(interval)
    assert implementation("some", print) is print


def test_long_sequences_stay_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    real = F.scaled_dot_product_attention

    def counting(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        lengths.append(q.shape[2])
        return real(q, k, v, attn_mask=attn_mask)

    monkeypatch.setattr(F, "scaled_dot_product_attention", counting)
    side = round(LONGEST_MAP**0.5)
    for length in (side, side + 1):
        x = torch.randn(1, 1, length, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        assert float((short_attention(x, x, x) - matmul_attention(x, x, x)).abs().max()) < 1e-12
    assert lengths == [side + 1]


# ---- long sequences --------------------------------------------------------------------------------------------------


def long(spread: float, queries: int = LONG + 3, keys: int = LONG + 5, d: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v in bfloat16; keys share a part, so that all scores of a row lie far from 0."""
    rng = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 2, n, d, generator=rng) for n in (queries, keys, keys))
    shared = 3 * torch.randn(1, 2, 1, d, generator=rng)
    return (spread * q).bfloat16(), (spread * k + shared).bfloat16(), v.bfloat16()


def apart(found: Tensor, q: Tensor, k: Tensor, v: Tensor) -> float:
    """From attention in float64, by the length of that."""
    exact = F.scaled_dot_product_attention(q.double(), k.double(), v.double())
    return float((found.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("spread", [0.5, 1.5, 3.0])
def test_rows_at_a_time_are_the_definition_within_bfloat16(spread: float) -> None:
    """2^-8 is the spacing of bfloat16 near 1. Rounded without a shift, scores would be some 2^-4 apart."""
    q, k, v = long(spread)
    out = by_rows(q, k, v)
    assert out is not None and out.shape == q.shape and out.dtype is torch.bfloat16
    assert apart(out, q, k, v) < 2 * 2**-8
    scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    assert spread < 1 or apart(scores.softmax(-1) @ v, q, k, v) > 2 * apart(out, q, k, v)


def test_a_key_that_the_sample_misses_is_found() -> None:
    """One key that a query is nearly the same as, not among those that tell how large scores are."""
    q, k, v = long(0.5)
    k[..., 5, :] = q[..., 7, :] * (40 / q[..., 7, :].float().square().sum(-1, keepdim=True) * 40**0.5)  # a score of 40
    out = by_rows(q, k, v)
    assert out is not None and apart(out, q, k, v) < 2 * 2**-8
    assert torch.allclose(out[..., 7, :].float(), v[..., 5, :].float(), rtol=2**-7)


def test_where_numbers_overflow_the_fused_kernel_answers() -> None:
    q, k, v = long(0.5)
    k[..., 5, :] = q[..., 7, :] * (200 / q[..., 7, :].float().square().sum(-1, keepdim=True) * 40**0.5)
    assert by_rows(q, k, v) is None
    assert torch.equal(usual(q, k, v, None), F.scaled_dot_product_attention(q, k, v))


def test_no_more_of_the_map_is_held_than_is_said() -> None:
    """Every tensor that is made on the way; the map would be 4 heads of 4 Mi numbers."""
    q, k, v = (x[:1].repeat(1, 2, 4, 1) for x in long(0.5, keys=LONG + 3))
    sizes: list[int] = []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = function(*args, **(kwargs or {}))
            sizes.extend([out.untyped_storage().nbytes()] if isinstance(out, Tensor) else [])
            return out

    with Sizes():
        assert by_rows(q, k, v) is not None
    assert q.shape[1] * q.shape[2] * k.shape[2] > 3 * MAP_AT_A_TIME
    assert max(sizes) <= 2 * MAP_AT_A_TIME


def test_rows_are_for_what_they_suit(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = long(0.5)
    fused = F.scaled_dot_product_attention
    seen = torch.rand(q.shape[2], k.shape[2], generator=torch.Generator().manual_seed(0)) < 0.9
    for slow in (("avx2",), ("avx512_bf16", "amx_bf16"), ()):
        monkeypatch.setattr(long_attention, "instructions", lambda has=slow: has)
        long_attention._measured.cache_clear()
        assert torch.equal(usual(q, k, v, None), fused(q, k, v))
    monkeypatch.setattr(long_attention, "instructions", lambda: ("avx512f", "avx512_bf16"))
    long_attention._measured.cache_clear()
    rows = by_rows(q, k, v)
    assert rows is not None and torch.equal(usual(q, k, v, None), rows) and not torch.equal(rows, fused(q, k, v))
    assert torch.equal(usual(q, k, v, seen), fused(q, k, v, attn_mask=seen))
    shared = k[:, :1]  # one set of keys for all heads
    assert torch.equal(usual(q, shared, v, None), fused(q, shared, v))
    assert torch.equal(usual(q[..., :9, :], k, v, None), fused(q[..., :9, :], k, v))
    assert torch.equal(usual(q.float(), k.float(), v.float(), None), fused(q.float(), k.float(), v.float()))
    learnt = q.clone().requires_grad_()
    usual(learnt, k, v, None).sum().backward()
    assert learnt.grad is not None
    monkeypatch.undo()
    long_attention._measured.cache_clear()
