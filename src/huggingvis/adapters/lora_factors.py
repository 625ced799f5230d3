"""What a LoRA file says about one tensor of a net: a change of it in few numbers.

    LowRank    W + s B A                       LoRA: Hu et al. 2021 (arXiv 2106.09685), eq. 3
    LowRank    with a core, W + s B M A        LoCon's Tucker form of a convolution
    Hadamard   W + s (B1 A1) * (B2 A2)         LoHa: Hyeon-Woo et al. 2021 (arXiv 2108.06098), eq. 2
    Kronecker  W + s (C kron D)                LoKr: C and D whole or themselves of low rank
    Full       W + D                           what full training changed, also of norms and biases
    Rescaled   m (W + D) / |W + D|             DoRA: Liu et al. 2024 (arXiv 2402.09353), eq. 5, over any of these

The forms of convolutions, and LoKr, are those of LyCORIS (Yeh et al. 2023, arXiv 2309.14859). s = alpha / rank, or 1
where a file gives no alpha. Tensors stay as the file has them (a 1x1 convolution may be [r, I, 1, 1] or [r, I]), so
that they can be written back as they were. Book: chapter 8, "Adapters".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from math import prod
from typing import Self, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Shape = tuple[int, ...]


def wide(dtype: torch.dtype) -> torch.dtype:
    """The type that changes of a weight of `dtype` are computed in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


@final
@dataclass(frozen=True)
class Layer:
    """A linear layer or convolution, as a product of its input with any kernel in the place of its weight."""

    of: nn.Linear | nn.Conv2d

    @property
    def weight(self) -> Tensor:
        """The layer's own kernel, [O, I] or [O, I, k, k]."""
        return self.of.weight

    @property
    def plain(self) -> bool:
        """Whether the kernel sees all channels, so that it may be a product of two."""
        return isinstance(self.of, nn.Linear) or self.of.groups == 1

    def whole(self, x: Tensor, kernel: Tensor) -> Tensor:
        """x through a kernel [O, I, ...] with the layer's stride and padding; without bias."""
        kernel = kernel.to(x)
        if isinstance(self.of, nn.Linear):
            return F.linear(x, kernel.flatten(1))
        kernel = kernel.reshape(*kernel.shape[:2], *(kernel.shape[2:] or (1, 1)))
        return self.of._conv_forward(x, kernel, None)

    def pointwise(self, x: Tensor, kernel: Tensor) -> Tensor:
        """x through a kernel [O, I] at each position."""
        kernel = kernel.to(x)
        return F.linear(x, kernel) if isinstance(self.of, nn.Linear) else F.conv2d(x, kernel[:, :, None, None])


class Factors(ABC):
    """A change of one tensor. Frozen dataclasses whose fields are tensors, numbers or other factors."""

    @abstractmethod
    def fits(self, shape: Shape) -> bool:
        """Whether it is a change of a tensor of this shape."""

    @abstractmethod
    def delta(self, weight: Tensor) -> Tensor:
        """What is added to `weight` at scale 1: its shape, in `wide` of its type."""

    def live(self, x: Tensor, layer: Layer) -> Tensor:
        """What is added to the layer's output at scale 1."""
        return layer.whole(x, self.delta(layer.weight))

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """The same with other tensors."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        moved = {name: x.to(device, dtype) for name, x in own.items() if isinstance(x, Tensor | Factors)}
        return replace(self, **moved)  # type: ignore[type-var]


def _scale(alpha: float | None, rank: int) -> float:
    return 1.0 if alpha is None else alpha / rank


def _alike(kernel: Shape, other: Shape) -> bool:
    """Whether two kernels have one size; (1, 1) is that of a linear layer, ()."""
    return tuple(kernel) == tuple(other) or prod(kernel) == prod(other) == 1


def _as(x: Tensor, weight: Tensor) -> Tensor:
    return x.to(weight.device, wide(weight.dtype))


@final
@dataclass(frozen=True)
class LowRank(Factors):
    """s B A, or s B M A. up = B [O, r], down = A [r, I, k, k], or [r, I] around a core mid = M [r, r, k, k]."""

    up: Tensor
    down: Tensor
    mid: Tensor | None = None
    alpha: float | None = None

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return _scale(self.alpha, self.rank)

    def fits(self, shape: Shape) -> bool:
        if len(shape) < 2 or self.up.shape[0] != shape[0]:
            return False
        if self.mid is None:
            flat = self.down.ndim == 2
            return (flat or _alike(self.down.shape[2:], shape[2:])) and self.down[0].numel() == prod(shape[1:])
        return self.down[0].numel() == shape[1] and _alike(self.mid.shape[2:], shape[2:])

    def delta(self, weight: Tensor) -> Tensor:
        up, down = _as(self.up, weight).flatten(1), _as(self.down, weight).flatten(1)
        if self.mid is None:
            return self.scale * (up @ down).reshape(weight.shape)
        return self.scale * _tucker(up.T, down, _as(self.mid, weight)).reshape(weight.shape)

    def live(self, x: Tensor, layer: Layer) -> Tensor:
        if not layer.plain:
            return super().live(x, layer)
        up, down = self.up.flatten(1), self.down
        if self.mid is None:
            h = layer.whole(x, down.reshape(self.rank, *layer.weight.shape[1:]))
        else:
            h = layer.whole(layer.pointwise(x, down.flatten(1)), self.mid)
        return self.scale * layer.pointwise(h, up)


def _tucker(a: Tensor, b: Tensor, core: Tensor) -> Tensor:
    """a [r, O], b [r, I], core [r, r, ...] -> [O, I, ...]."""
    return torch.einsum("io,jc,ij...->oc...", a, b, core)


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
        return _scale(self.alpha, self.rank)

    def fits(self, shape: Shape) -> bool:
        if self.t1 is None or self.t2 is None:
            sides = ((self.w1_a, self.w1_b), (self.w2_a, self.w2_b))
            return all(a.shape[0] == shape[0] and b[0].numel() == prod(shape[1:]) for a, b in sides)
        made = ((a.shape[1], b.shape[1]) for a, b in ((self.w1_a, self.w1_b), (self.w2_a, self.w2_b)))
        cores = all(_alike(t.shape[2:], shape[2:]) for t in (self.t1, self.t2))
        return cores and all(sizes == shape[:2] for sizes in made)

    def delta(self, weight: Tensor) -> Tensor:
        def side(a: Tensor, b: Tensor, t: Tensor | None) -> Tensor:
            a, b = _as(a, weight), _as(b, weight)
            return a @ b.flatten(1) if t is None else _tucker(a, b, _as(t, weight)).flatten(1)

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
        return _scale(self.alpha, self.rank)

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
            return there == shape[:2] and _alike(self.w2.shape[2:], shape[2:])
        assert self.w2_a is not None and self.w2_b is not None
        if self.t2 is not None:
            there = (a * self.w2_a.shape[1], c * self.w2_b.shape[1])
            return there == shape[:2] and _alike(self.t2.shape[2:], shape[2:])
        return a * self.w2_a.shape[0] == shape[0] and c * self.w2_b[0].numel() == prod(shape[1:])

    def parts(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """C [a, c] and D [b, d, ...] in `wide` of the weight's type."""

        def get(x: Tensor | None) -> Tensor:
            assert x is not None
            return _as(x, weight)

        first = get(self.w1) if self.w1 is not None else get(self.w1_a) @ get(self.w1_b)
        a, c = first.shape
        if self.w2 is not None:
            second = get(self.w2)
        elif self.t2 is not None:
            second = _tucker(get(self.w2_a), get(self.w2_b), get(self.t2))
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


@final
@dataclass(frozen=True)
class Full(Factors):
    """The difference itself, in the shape of the tensor."""

    diff: Tensor

    def fits(self, shape: Shape) -> bool:
        there = tuple(self.diff.shape)
        return there[:2] == shape[:2] and _alike(there[2:], shape[2:])

    def delta(self, weight: Tensor) -> Tensor:
        return _as(self.diff, weight).reshape(weight.shape)


@final
@dataclass(frozen=True)
class Rescaled(Factors):
    """DoRA: the direction of W + D with the lengths `magnitude`, one for each output [O, 1, ...] or input [1, I, ...].

    What it adds depends on the weight it sits on. At other scales than 1 the weight goes straight from W to this.
    """

    of: Factors
    magnitude: Tensor

    def fits(self, shape: Shape) -> bool:
        lengths = self.magnitude.numel()
        axis = self._axis(shape)
        return self.of.fits(shape) and self.magnitude.shape[axis : axis + 1].numel() == lengths == shape[axis]

    def _axis(self, shape: Shape) -> int:
        return 0 if self.magnitude.shape[0] == shape[0] else 1

    def delta(self, weight: Tensor) -> Tensor:
        old = _as(weight, weight)
        new = old + self.of.delta(weight)
        axis = self._axis(tuple(weight.shape))
        rest = [dim for dim in range(weight.ndim) if dim != axis]
        length = torch.linalg.vector_norm(new, dim=rest, keepdim=True).clamp_min(torch.finfo(new.dtype).tiny)
        return new * (_as(self.magnitude, weight).reshape(length.shape) / length) - old
