"""Learning rate schedules, AdamW and Muon, as frozen numbers that build the real thing.

AdamW: I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", 2017, arXiv:1711.05101.
Cosine schedule: by the same authors, 2016, arXiv:1608.03983, equation 5 without restarts.
Inverse square root: T. Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models", 2023,
arXiv:2312.02696, there with a reference step after which the rate decays.
Rates by the count of a unit's inputs: G. Yang et al., "Tensor Programs V: Tuning Large Neural Networks via Zero-Shot
Hyperparameter Transfer", 2022, arXiv:2203.03466, Table 3 (Adam, hidden and output weights).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import nn

from huggingvis.train.muon import Muon

PACE = "pace"
"""Key of an optimiser's group of parameters: what their learning rate is multiplied by; 1 where it is missing."""


class Schedule(ABC):
    """What the learning rate is multiplied by, as a function of the step (0 is the first)."""

    @abstractmethod
    def factor(self, step: int) -> float:
        """A number in [0, 1]."""


@final
@dataclass(frozen=True)
class Constant(Schedule):
    """The learning rate as given."""

    def factor(self, step: int) -> float:
        return 1.0


@final
@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from 1 at step `start` down to `floor` at step `steps`, then flat."""

    steps: int
    floor: float = 0.0
    start: int = 0

    def factor(self, step: int) -> float:
        done = min(max((step - self.start) / max(self.steps - self.start, 1), 0.0), 1.0)
        return self.floor + (1.0 - self.floor) * 0.5 * (1.0 + math.cos(math.pi * done))


@final
@dataclass(frozen=True)
class InverseSqrt(Schedule):
    """1 until step `reference`, from there sqrt(reference / step)."""

    reference: int

    def factor(self, step: int) -> float:
        return 1.0 / math.sqrt(max(step / self.reference, 1.0))


@final
@dataclass(frozen=True)
class Optim:
    """AdamW with warm-up, schedule and gradient clipping for one net; its matrices may move by Muon instead."""

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    """Decoupled decay of matrices and kernels; biases, gains and other vectors never decay."""
    warmup: int = 0
    """Steps over which the learning rate rises linearly to its full value."""
    schedule: Schedule = field(default_factory=Constant)
    clip: float | None = 1.0
    """Largest norm of this net's whole gradient; None: as it comes."""
    fused: bool = True
    muon: bool = False
    """Matrices and kernels of 32 rows and columns or more move by `Muon`. Not for nets with tables of embeddings."""
    wide: int | None = None
    """Matrices and kernels whose units read n > `wide` numbers move `wide`/n as fast: AdamW moves all weights alike,
    and what a unit says would move by n times as much. None: all at one rate."""

    def rate(self, step: int) -> float:
        """The learning rate of step `step` (0 is the first)."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return self.lr * rise * self.schedule.factor(step)

    def build(self, params: Sequence[nn.Parameter]) -> list[torch.optim.Optimizer]:
        """The optimisers that share `params` among them."""
        matrices, vectors = decaying(params)
        inner = [p for p in matrices if self.muon and min(p.shape[0], p[0].numel()) >= 32]
        outer = [p for p in matrices if all(p is not q for q in inner)]
        paces = dict.fromkeys(self._pace(p) for p in outer)
        groups: list[dict[str, Any]] = [
            {"params": [p for p in outer if self._pace(p) == pace], "weight_decay": self.weight_decay, PACE: pace}
            for pace in paces
        ]
        groups += [{"params": vectors, "weight_decay": 0.0}] if vectors else []
        built: list[torch.optim.Optimizer] = [Muon(inner, self.lr, weight_decay=self.weight_decay)] if inner else []
        if groups:
            built.append(torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=self.fused))
        return built

    def _pace(self, p: nn.Parameter) -> float:
        return 1.0 if self.wide is None else min(1.0, self.wide / math.prod(p.shape[1:]))


def decaying(params: Sequence[nn.Parameter]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters that decay (two axes or more) and those that do not."""
    return [p for p in params if p.ndim >= 2], [p for p in params if p.ndim < 2]
