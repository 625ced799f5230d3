"""LoHa and LoKr: changes of a weight that are products of small matrices, of higher rank than a LoRA of equal size.

    Hadamard   W + s (B1 A1) * (B2 A2)         LoHa: Hyeon-Woo et al. 2021 (arXiv 2108.06098), eq. 2
    Kronecker  W + s (C kron D)                LoKr: Edalati et al. 2022 (arXiv 2212.10650), eq. 3, parts whole or low

Their forms for convolutions are those of LyCORIS (Yeh et al. 2023, arXiv 2309.14859), whose files they come in.
Book: chapter 8, "Adapters".
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.adapters.lora_factors import Factors, Layer, Shape, alike, around_core, as_wide, scale_of


@final
@dataclass(frozen=True)
class Hadamard(Factors):
    """s (w1_a w1_b) * (w2_a w2_b): a [O, r], b [r, I k k]; around cores t [r, r, k, k]: a [r, O], b [r, I]."""

    w1_a: Tensor
    w1_b: Tensor
    w2_a: Tensor
    w2_b: Tensor
    t1: Tensor | None = None
    t2: Tensor | None = None
    alpha: float | None = None

    @property
    def rank(self) -> int:
        return self.w1_b.shape[0]

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return scale_of(self.alpha, self.rank)

    def fits(self, shape: Shape) -> bool:
        if self.t1 is None or self.t2 is None:
            sides = ((self.w1_a, self.w1_b), (self.w2_a, self.w2_b))
            return all(a.shape[0] == shape[0] and b[0].numel() == prod(shape[1:]) for a, b in sides)
        made = ((a.shape[1], b.shape[1]) for a, b in ((self.w1_a, self.w1_b), (self.w2_a, self.w2_b)))
        cores = all(alike(t.shape[2:], shape[2:]) for t in (self.t1, self.t2))
        return cores and all(sizes == shape[:2] for sizes in made)

    def delta(self, weight: Tensor) -> Tensor:
        def side(a: Tensor, b: Tensor, t: Tensor | None) -> Tensor:
            a, b = as_wide(a, weight), as_wide(b, weight)
            return a @ b.flatten(1) if t is None else around_core(a, b, as_wide(t, weight)).flatten(1)

        both = side(self.w1_a, self.w1_b, self.t1) * side(self.w2_a, self.w2_b, self.t2)
        return self.scale * both.reshape(weight.shape)


@final
@dataclass(frozen=True)
class Kronecker(Factors):
    """s C kron D. C = w1 [a, c] or w1_a w1_b; D = w2 [b, d, k, k], or w2_a [b, r] w2_b [r, d k k], or these around t2.

    Around a core t2 [r, r, k, k]: w2_a [r, b], w2_b [r, d]. s = alpha, or 1, where both are whole.
    """

    w1: Tensor | None = None
    w1_a: Tensor | None = None
    w1_b: Tensor | None = None
    w2: Tensor | None = None
    w2_a: Tensor | None = None
    w2_b: Tensor | None = None
    t2: Tensor | None = None
    alpha: float | None = None

    @property
    def rank(self) -> int:
        """1 where both parts are whole."""
        inner = self.w2_b if self.w2_b is not None else self.w1_b
        return 1 if inner is None else inner.shape[0]

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return scale_of(self.alpha, self.rank)

    @property
    def whole(self) -> bool:
        """Whether neither part is of low rank."""
        return self.w1 is not None and self.w2 is not None

    @property
    def inputs(self) -> int:
        """Channels of the input (times the kernel's size, where D is w2_a w2_b)."""
        right = self.w2 if self.w2 is not None else self.w2_b
        assert right is not None
        return self._first()[1] * (right.shape[1] if right is self.w2 else right[0].numel())

    def _first(self) -> Shape:
        whole = (self.w1,) if self.w1 is not None else (self.w1_a, self.w1_b)
        return whole[0].shape[0], whole[-1].shape[1]  # type: ignore[union-attr]

    def fits(self, shape: Shape) -> bool:
        a, c = self._first()
        if self.w2 is not None:
            there = (a * self.w2.shape[0], c * self.w2.shape[1])
            return there == shape[:2] and alike(self.w2.shape[2:], shape[2:])
        assert self.w2_a is not None and self.w2_b is not None
        if self.t2 is not None:
            there = (a * self.w2_a.shape[1], c * self.w2_b.shape[1])
            return there == shape[:2] and alike(self.t2.shape[2:], shape[2:])
        return a * self.w2_a.shape[0] == shape[0] and c * self.w2_b[0].numel() == prod(shape[1:])

    def parts(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """C [a, c] and D [b, d, ...] in `wide` of the weight's type."""

        def get(x: Tensor | None) -> Tensor:
            assert x is not None
            return as_wide(x, weight)

        first = get(self.w1) if self.w1 is not None else get(self.w1_a) @ get(self.w1_b)
        a, c = first.shape
        if self.w2 is not None:
            second = get(self.w2)
        elif self.t2 is not None:
            second = around_core(get(self.w2_a), get(self.w2_b), get(self.t2))
        else:
            second = get(self.w2_a) @ get(self.w2_b).flatten(1)
        kernel = weight.shape[2:]
        return first, second.reshape(weight.shape[0] // a, weight.shape[1] // c, *kernel)

    def delta(self, weight: Tensor) -> Tensor:
        first, second = self.parts(weight)
        first = first.reshape(*first.shape, *(1 for _ in second.shape[2:]))
        return self.scale * torch.kron(first, second.contiguous())

    def live(self, x: Tensor, layer: Layer) -> Tensor:
        if not isinstance(layer.of, nn.Linear):
            return super().live(x, layer)
        first, second = self.parts(layer.weight)  # [a, c], [b, d]
        h = F.linear(x.unflatten(-1, (first.shape[1], -1)), second.to(x))  # [..., c, b]
        return self.scale * (first.to(x) @ h).flatten(-2)  # (C kron D) vec X = vec(C X D^T)
