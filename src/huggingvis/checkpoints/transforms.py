"""How tensors of another code base become ours and back: the third column of a key map.

Every transform is exact in both directions, bit for bit; that is what lets a checkpoint go in and out unchanged.
"ours" and "theirs" are tuples, as one tensor on one side may be several on the other. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

Group = tuple[Tensor, ...]


class Transform(ABC):
    """`arity` = (number of our tensors, number of theirs)."""

    @property
    def arity(self) -> tuple[int, int]:
        return 1, 1

    @abstractmethod
    def to_ours(self, theirs: Group) -> Group:
        """Our tensors from theirs."""

    @abstractmethod
    def to_theirs(self, ours: Group) -> Group:
        """Their tensors from ours."""


@final
@dataclass(frozen=True)
class Identity(Transform):
    """The same numbers under another name."""

    def to_ours(self, theirs: Group) -> Group:
        return theirs

    def to_theirs(self, ours: Group) -> Group:
        return ours


@final
@dataclass(frozen=True)
class Transpose(Transform):
    """Two axes swapped: `x @ W` there, `x @ W.T` here."""

    dim0: int = 0
    dim1: int = 1

    def to_ours(self, theirs: Group) -> Group:
        return tuple(x.transpose(self.dim0, self.dim1).contiguous() for x in theirs)

    def to_theirs(self, ours: Group) -> Group:
        return self.to_ours(ours)


@final
@dataclass(frozen=True)
class ConvToLinear(Transform):
    """A convolution of size 1 there, [O, I, 1, 1] (`dims` ones), a linear layer [O, I] here."""

    dims: int = 2

    def to_ours(self, theirs: Group) -> Group:
        (w,) = theirs
        if w.ndim != 2 + self.dims or any(n != 1 for n in w.shape[2:]):
            raise ValueError(f"a convolution of size 1 has shape [O, I{', 1' * self.dims}], found {list(w.shape)}")
        return (w.reshape(w.shape[:2]),)  # [O, I]

    def to_theirs(self, ours: Group) -> Group:
        (w,) = ours
        if w.ndim != 2:
            raise ValueError(f"the weight of a linear layer has shape [O, I], found {list(w.shape)}")
        return (w.reshape(*w.shape, *[1] * self.dims),)


@final
@dataclass(frozen=True)
class Split(Transform):
    """One tensor there holds `parts` of ours along `dim`, as the fused query, key and value of attention do.

    `heads` > 1: theirs is laid out head by head, each head with its q, k and v, not all of q first.
    """

    parts: int = 3
    dim: int = 0
    heads: int = 1

    @property
    def arity(self) -> tuple[int, int]:
        return self.parts, 1

    def to_ours(self, theirs: Group) -> Group:
        (x,) = theirs
        if x.shape[self.dim] % (self.heads * self.parts):
            raise ValueError(f"axis {self.dim} of {list(x.shape)} is no multiple of {self.heads} x {self.parts} parts")
        rows = x.movedim(self.dim, 0)
        rows = rows.reshape(self.heads, self.parts, -1, *rows.shape[1:])  # [heads, parts, n, ...]
        return tuple(part.flatten(0, 1).movedim(0, self.dim).contiguous() for part in rows.unbind(1))

    def to_theirs(self, ours: Group) -> Group:
        if len({part.shape for part in ours}) != 1:
            raise ValueError(f"parts to be fused must have one shape, found {[list(part.shape) for part in ours]}")
        heads = [part.movedim(self.dim, 0).unflatten(0, (self.heads, -1)) for part in ours]  # each [heads, n, ...]
        return (torch.stack(heads, dim=1).flatten(0, 2).movedim(0, self.dim).contiguous(),)


@final
@dataclass(frozen=True)
class Reverse(Transform):
    """A transform with the sides exchanged: `Reverse(Split())` fuses their q, k and v into one of ours."""

    of: Transform

    @property
    def arity(self) -> tuple[int, int]:
        ours, theirs = self.of.arity
        return theirs, ours

    def to_ours(self, theirs: Group) -> Group:
        return self.of.to_theirs(theirs)

    def to_theirs(self, ours: Group) -> Group:
        return self.of.to_ours(ours)
