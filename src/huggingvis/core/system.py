"""A system: named weights bound into something that generates.

`Spec` says what it is in words and numbers, `parts` are its networks, `conditioner` reads requests, `build` makes the
generator that a request's numbers (steps, sampler, guidance) ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from .diffusion import Diffusion
from .protocols import Conditioner, Decodes, Encodes
from .request import Request


@dataclass(frozen=True)
class Spec:
    """What a system is: `family` names the file of systems/ that binds it, `size` its native (width, height)."""

    name: str
    family: str
    size: tuple[int, int]
    multiple: int = 1
    licence: str = ""
    card: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class System:
    """Weights bound to their meaning."""

    spec: Spec
    parts: Mapping[str, nn.Module]
    conditioner: Conditioner
    codec: Encodes | Decodes
    generator: Callable[[Request], Diffusion]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
