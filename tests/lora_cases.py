"""What the tests of LoRA share: every kind of change with random numbers, and nets that carry their own names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from huggingvis.adapters.lora_factors import Factors, Full, LowRank, Rescaled, Shape
from huggingvis.adapters.lora_lycoris import Hadamard, Kronecker
from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.checkpoints.lora_formats_fit import Host

Net = TypeVar("Net", bound=nn.Module)
OWN_NAMES = KeyMap([Rule("{name:path}", "{name:path}")])


def host(net: nn.Module) -> Host:
    """A net whose layers have no other names than its own."""
    return Host(net, (OWN_NAMES,))


def changes(shape: Shape, seed: int = 0, dtype: torch.dtype = torch.float32, size: float = 1.0) -> dict[str, Factors]:
    """Every kind of change of a weight of this shape, [O, I] or [O, I, k, k]; O and I are multiples of 4."""
    rng = torch.Generator().manual_seed(seed)

    def draw(*sizes: int) -> Tensor:
        return size * torch.randn(*sizes, generator=rng, dtype=dtype)

    out, into, *kernel = shape
    ones = (1,) * len(kernel)
    area = int(torch.tensor(kernel).prod()) if kernel else 1
    r, a, c = 3, 2, 4
    b, d = out // a, into // c
    w1_a, w1_b, w2_a, w2_b = draw(a, r), draw(r, c), draw(b, r), draw(r, d * area)
    low = LowRank(draw(out, r, *ones), draw(r, into, *kernel), None, 1.5)
    kinds: dict[str, Factors] = {
        "LoRA": low,
        "LoRA without alpha": LowRank(draw(out, r), draw(r, into, *kernel)),
        "LoHa": Hadamard(draw(out, r), draw(r, into * area), draw(out, r), draw(r, into * area), alpha=2.0),
        "LoKr": Kronecker(w1=draw(a, c), w2_a=w2_a, w2_b=w2_b, alpha=2.0),
        "LoKr both low": Kronecker(w1_a=w1_a, w1_b=w1_b, w2_a=w2_a, w2_b=w2_b, alpha=2.0),
        "LoKr first low": Kronecker(w1_a=w1_a, w1_b=w1_b, w2=draw(b, d, *kernel), alpha=2.0),
        "LoKr whole": Kronecker(w1=draw(a, c), w2=draw(b, d, *kernel)),
        "full": Full(draw(*shape)),
        "DoRA": Rescaled(low, draw(out, *(1 for _ in shape[1:])).abs()),
        "DoRA of inputs": Rescaled(low, draw(1, into, *ones).abs()),
        "DoRA of LoHa": Rescaled(
            Hadamard(draw(out, r), draw(r, into * area), draw(out, r), draw(r, into * area)), draw(out).abs()
        ),
    }
    if kernel:
        kinds |= {
            "LoCon around a core": LowRank(draw(out, r, 1, 1), draw(r, into, 1, 1), draw(r, r, *kernel), 1.5),
            "LoHa around cores": Hadamard(
                draw(r, out), draw(r, into), draw(r, out), draw(r, into), draw(r, r, *kernel), draw(r, r, *kernel), 2.0
            ),
            "LoKr around a core": Kronecker(
                w1=draw(a, c), w2_a=draw(r, b), w2_b=draw(r, d), t2=draw(r, r, *kernel), alpha=2.0
            ),
        }
    return kinds


def seeded(make: Callable[..., Net], *args: object) -> Net:
    """The same random net every time, zero-initialised layers included."""
    torch.manual_seed(0)
    net = make(*args)
    for parameter in net.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return net
