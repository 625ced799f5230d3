"""Taps: read or replace what flows through a network's attention, by the name of the place.

A tap declares what it needs. `QKVTap` sees queries, keys and values before attention, `BesideTap` the queries and what
they found, `OutputTap` the result; all leave the fused kernel in place. `ProbsTap` sees the attention map itself, so
its site falls back to explicit softmax. With no tap a network runs exactly the code it would run without taps at all.
Prompt-to-prompt, MasaCtrl, IP-Adapter, reference networks, heat maps and drag editing are taps.
Book: chapter 6, "Looking inside".
"""

from __future__ import annotations

import fnmatch
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from torch import Tensor, nn

from huggingvis.core.errors import unknown


@dataclass(frozen=True)
class Site:
    """Where a tap sits: dotted module `name` in the net, and whether keys come from the `tokens` port (`cross`)."""

    name: str
    cross: bool


class QKVTap(ABC):
    """Sees and may replace q, k, v, each [B, heads, L, d]."""

    @abstractmethod
    def qkv(self, site: Site, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]: ...


class BesideTap(ABC):
    """Sees the queries and what they found, each [B, heads, L, d]; may add what they find elsewhere."""

    @abstractmethod
    def beside(self, site: Site, q: Tensor, found: Tensor) -> Tensor: ...


class ProbsTap(ABC):
    """Sees and may replace the attention map [B, heads, Lq, Lk]; its rows sum to 1."""

    @abstractmethod
    def probs(self, site: Site, probs: Tensor) -> Tensor: ...


class OutputTap(ABC):
    """Sees and may replace attention's result [B, L, D] before the output projection."""

    @abstractmethod
    def output(self, site: Site, out: Tensor) -> Tensor: ...


Tap = QKVTap | BesideTap | ProbsTap | OutputTap


class Tappable(nn.Module):
    """Base of modules that honour taps. `taps` is empty unless somebody attached one."""

    cross: bool = False

    def __init__(self) -> None:
        super().__init__()
        self.taps: tuple[tuple[Site, Tap], ...] = ()


@final
class Handle:
    """Undoes one attachment exactly."""

    def __init__(self, modules: Sequence[Tappable], tap: Tap):
        self.modules, self.tap = tuple(modules), tap

    def remove(self) -> None:
        for module in self.modules:
            module.taps = tuple(pair for pair in module.taps if pair[1] is not self.tap)


def sites(net: nn.Module) -> dict[str, Tappable]:
    """Every place of `net` that honours taps, by dotted name."""
    return {name: m for name, m in net.named_modules() if isinstance(m, Tappable)}


def attach(net: nn.Module, tap: Tap, where: str = "*") -> Handle:
    """Put `tap` on every site whose name matches the glob `where`; `UsageError` if none does."""
    places = sites(net)
    chosen = {name: m for name, m in places.items() if fnmatch.fnmatchcase(name, where)}
    if not chosen:
        raise unknown("attention site", where, places)
    for name, module in chosen.items():
        module.taps = (*module.taps, (Site(name, module.cross), tap))
    return Handle(list(chosen.values()), tap)
