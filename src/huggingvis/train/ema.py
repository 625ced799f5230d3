"""Averaged weights: what is evaluated and shipped in place of the last step's weights.

Constant decay with warm-up: theta' <- d theta' + (1 - d) theta, d = min(decay, (1 + step) / (10 + step)).
Power-function profile: T. Karras, M. Aittala, J. Lehtinen, J. Hellsten, T. Aila, S. Laine, "Analyzing and Improving
the Training Dynamics of Diffusion Models", 2023, arXiv:2312.02696, section 3.1: the average weighs time as tau^gamma,
so its width is a fixed share of the training's length whatever that length is.
"""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import final

import torch
from torch import Tensor, nn

from huggingvis.core.errors import UsageError, unknown
from huggingvis.train.sharding import held, hold


class Decay(ABC):
    """How much of the old average stays, as a function of the step (0 is the first)."""

    @abstractmethod
    def at(self, step: int) -> float:
        """A number in [0, 1]."""


@final
@dataclass(frozen=True)
class ConstantDecay(Decay):
    """`decay`, approached from below as (1 + step) / (10 + step) so that early averages forget the initialisation."""

    decay: float = 0.9999
    warmup: bool = True

    def at(self, step: int) -> float:
        return min(self.decay, (1 + step) / (10 + step)) if self.warmup else self.decay


@final
@dataclass(frozen=True)
class PowerDecay(Decay):
    """beta(t) = (1 - 1/t)^(gamma + 1), with gamma chosen so that the profile's relative width is `width`."""

    width: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 < self.width < 1 / math.sqrt(12):
            raise UsageError(f"The width of a power average lies between 0 and 0.288, found {self.width}; try 0.1.")

    def at(self, step: int) -> float:
        return (1.0 - 1.0 / (step + 1)) ** (_exponent(self.width) + 1.0)


@lru_cache
def _exponent(width: float) -> float:
    """gamma >= 0 with (gamma + 1)^(1/2) (gamma + 2)^-1 (gamma + 3)^(-1/2) = width, which falls with gamma."""
    low, high = 0.0, 1.0 / width**2 + 1.0
    for _ in range(200):
        gamma = (low + high) / 2
        wide = math.sqrt(gamma + 1) / ((gamma + 2) * math.sqrt(gamma + 3))
        low, high = (gamma, high) if wide > width else (low, gamma)
    return (low + high) / 2


@final
@dataclass(frozen=True)
class Ema:
    """Which nets are averaged (None: all) and how."""

    decay: Decay = field(default_factory=ConstantDecay)
    nets: tuple[str, ...] | None = None


@final
class Averages:
    """The running averages of some nets' parameters, float32 or wider. Buffers are not averaged: they stay live."""

    def __init__(self, spec: Ema, nets: Mapping[str, nn.Module]):
        for name in spec.nets or ():
            if name not in nets:
                raise unknown("net to average", name, nets)
        self.spec = spec
        self.nets = {name: net for name, net in nets.items() if spec.nets is None or name in spec.nets}
        self._live = [p for net in self.nets.values() for p in net.parameters()]
        self._mean = [p.detach().to(torch.promote_types(p.dtype, torch.float32)).clone() for p in self._live]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after step `step` (0 is the first)."""
        live = [p.detach().to(m.dtype) for p, m in zip(self._live, self._mean, strict=True)]
        torch._foreach_lerp_(self._mean, live, 1.0 - self.spec.decay.at(step))

    @contextlib.contextmanager
    def swap(self) -> Iterator[None]:
        """Inside, the nets hold their averages; afterwards the very tensors they held before."""
        kept = [held(p) for p in self._live]
        try:
            for p, mean in zip(self._live, self._mean, strict=True):
                hold(p, mean.to(p.dtype))
            yield
        finally:
            for p, data in zip(self._live, kept, strict=True):
                hold(p, data)

    def state_dict(self, net: str) -> dict[str, Tensor]:
        """As the net's own `state_dict`, with averages in place of parameters."""
        mean = {id(p): m for p, m in zip(self._live, self._mean, strict=True)}
        live = self.nets[net].state_dict(keep_vars=True)
        return {key: mean.get(id(value), value.detach()) for key, value in live.items()}

    @torch.no_grad()
    def load_state_dict(self, net: str, state: Mapping[str, Tensor]) -> None:
        """Takes the averages of one net from what `state_dict` gave."""
        mean = {id(p): m for p, m in zip(self._live, self._mean, strict=True)}
        for key, p in self.nets[net].named_parameters():
            mean[id(p)].copy_(state[key])
