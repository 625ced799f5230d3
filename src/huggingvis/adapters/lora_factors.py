"""What a LoRA file says about one tensor of a net: a change of it in few numbers.

    LowRank    W + s B A                       LoRA: Hu et al. 2021 (arXiv 2106.09685), eq. 3
    LowRank    with a core, W + s B M A        LoCon's Tucker form of a convolution (LyCORIS, arXiv 2309.14859)
    Full       W + D                           what full training changed, also of norms and biases
    Rescaled   m (W + D) / |W + D|             DoRA: Liu et al. 2024 (arXiv 2402.09353), eq. 5, over any other change

Two more are in `lora_lycoris`. s = alpha / rank, or 1 where a file gives no alpha. Tensors stay as the file has them
(a 1x1 convolution may be [r, I, 1, 1] or [r, I]), so that they can be written back as they were.
Book: chapter 8, "Adapters".
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


def scale_of(alpha: float | None, rank: int) -> float:
    """What factors of this rank are multiplied by."""
    return 1.0 if alpha is None else alpha / rank


def alike(kernel: Shape, other: Shape) -> bool:
    """Whether two kernels have one size; (1, 1) is that of a linear layer, ()."""
    return tuple(kernel) == tuple(other) or prod(kernel) == prod(other) == 1


def as_wide(x: Tensor, weight: Tensor) -> Tensor:
    """x where the weight is, in the type that changes of it are computed in."""
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
        return scale_of(self.alpha, self.rank)

    def fits(self, shape: Shape) -> bool:
        if len(shape) < 2 or self.up.shape[0] != shape[0]:
            return False
        if self.mid is None:
            flat = self.down.ndim == 2
            return (flat or alike(self.down.shape[2:], shape[2:])) and self.down[0].numel() == prod(shape[1:])
        return self.down[0].numel() == shape[1] and alike(self.mid.shape[2:], shape[2:])

    def delta(self, weight: Tensor) -> Tensor:
        up, down = as_wide(self.up, weight).flatten(1), as_wide(self.down, weight).flatten(1)
        if self.mid is None:
            return self.scale * (up @ down).reshape(weight.shape)
        return self.scale * around_core(up.T, down, as_wide(self.mid, weight)).reshape(weight.shape)

    def live(self, x: Tensor, layer: Layer) -> Tensor:
        if not layer.plain:
            return super().live(x, layer)
        up, down = self.up.flatten(1), self.down
        if self.mid is None:
            h = layer.whole(x, down.reshape(self.rank, *layer.weight.shape[1:]))
        else:
            h = layer.whole(layer.pointwise(x, down.flatten(1)), self.mid)
        return self.scale * layer.pointwise(h, up)


def around_core(a: Tensor, b: Tensor, core: Tensor) -> Tensor:
    """a [r, O], b [r, I], core [r, r, ...] -> [O, I, ...]."""
    return torch.einsum("io,jc,ij...->oc...", a, b, core)


@final
@dataclass(frozen=True)
class Full(Factors):
    """The difference itself, in the shape of the tensor."""

    diff: Tensor

    def fits(self, shape: Shape) -> bool:
        there = tuple(self.diff.shape)
        return there[:2] == shape[:2] and alike(there[2:], shape[2:])

    def delta(self, weight: Tensor) -> Tensor:
        return as_wide(self.diff, weight).reshape(weight.shape)


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
        old = as_wide(weight, weight)
        new = old + self.of.delta(weight)
        axis = self._axis(tuple(weight.shape))
        rest = [dim for dim in range(weight.ndim) if dim != axis]
        length = torch.linalg.vector_norm(new, dim=rest, keepdim=True).clamp_min(torch.finfo(new.dtype).tiny)
        return new * (as_wide(self.magnitude, weight).reshape(length.shape) / length) - old
