"""The rules of adversarial games: what generator and critic minimise, and what keeps the critic smooth.

With D = sigmoid(s), s the critic's output:

    minimax         min_G max_D  E log D(x) + E log(1 - D(G(z)))     Goodfellow et al. 2014, arXiv 1406.2661, Eq. 1
    non-saturating  the same D;  G maximises E log D(G(z))           the same, Sec. 3
    least squares   E (s(x) - 1)^2 / 2 + E s(G(z))^2 / 2             Mao et al. 2016, arXiv 1611.04076, Eq. 9
    hinge           E max(0, 1 - s(x)) + E max(0, 1 + s(G(z)))       Lim & Ye 2017, arXiv 1705.02894
    Wasserstein     E s(G(z)) - E s(x), s 1-Lipschitz                Arjovsky et al. 2017, arXiv 1701.07875

The Lipschitz bound is kept by a gradient penalty (Gulrajani et al. 2017, arXiv 1704.00028, Eq. 3); R1 (Mescheder et al.
2018, arXiv 1801.04406, Eq. 9) makes the other games converge. Book: chapter 2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor
from torch.nn import functional as F

from huggingvis.core.objective import Losses

Judge = Callable[[Tensor], Tensor]
"""Pictures [B, C, H, W] -> the critic's outputs [B], its condition already in it."""


class Game(Protocol):
    """What the players minimise, given the critic's outputs on real and on made pictures."""

    def critic(self, real: Tensor, fake: Tensor) -> Losses: ...

    def generator(self, fake: Tensor) -> Tensor: ...


@final
@dataclass(frozen=True)
class Minimax:
    """The generator minimises what the critic maximises; it learns nothing from a critic that is sure."""

    def critic(self, real: Tensor, fake: Tensor) -> Losses:
        return {"real": F.softplus(-real).mean(), "fake": F.softplus(fake).mean()}

    def generator(self, fake: Tensor) -> Tensor:
        return -F.softplus(fake).mean()  # log(1 - sigmoid(s)) = -softplus(s)


@final
@dataclass(frozen=True)
class NonSaturating:
    """The generator maximises log D(G(z)): the same fixed point, with a gradient while the critic is ahead."""

    def critic(self, real: Tensor, fake: Tensor) -> Losses:
        return {"real": F.softplus(-real).mean(), "fake": F.softplus(fake).mean()}

    def generator(self, fake: Tensor) -> Tensor:
        return F.softplus(-fake).mean()


@final
@dataclass(frozen=True)
class LeastSquares:
    """Targets 1 for real and 0 for made pictures."""

    def critic(self, real: Tensor, fake: Tensor) -> Losses:
        return {"real": (real - 1).square().mean() / 2, "fake": fake.square().mean() / 2}

    def generator(self, fake: Tensor) -> Tensor:
        return (fake - 1).square().mean() / 2


@final
@dataclass(frozen=True)
class Hinge:
    """The critic leaves alone what lies beyond its margin."""

    def critic(self, real: Tensor, fake: Tensor) -> Losses:
        return {"real": F.relu(1 - real).mean(), "fake": F.relu(1 + fake).mean()}

    def generator(self, fake: Tensor) -> Tensor:
        return -fake.mean()


@final
@dataclass(frozen=True)
class Wasserstein:
    """Needs a penalty that keeps the critic 1-Lipschitz.

    Attributes:
        drift: weight of E s(x)^2, which keeps outputs near 0 (Karras et al. 2017, arXiv 1710.10196, App. A.1: 0.001).
    """

    drift: float = 0.0

    def critic(self, real: Tensor, fake: Tensor) -> Losses:
        losses = {"real": -real.mean(), "fake": fake.mean()}
        return {**losses, "drift": self.drift * real.square().mean()} if self.drift else losses

    def generator(self, fake: Tensor) -> Tensor:
        return -fake.mean()


class Penalty(Protocol):
    """What the critic pays for its slope, weighted. `real` and `fake` [B, C, H, W] carry no gradient."""

    def __call__(self, judge: Judge, real: Tensor, fake: Tensor, rng: torch.Generator) -> Tensor: ...


def slopes(judge: Judge, x: Tensor) -> Tensor:
    """Gradients of each picture's own output at `x` [B, C, H, W], which can be differentiated again: the same shape."""
    x = x.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(judge(x).sum(), x, create_graph=True)
    return gradient


@final
@dataclass(frozen=True)
class GradientPenalty:
    """weight E (|grad s(x')| - target)^2 / target^2, x' on straight lines between real and made pictures.

    Attributes:
        weight: of the penalty (lambda in the paper).
        target: slope to keep (gamma in Karras et al. 2017, App. A.1).
    """

    weight: float = 10.0
    target: float = 1.0

    def __call__(self, judge: Judge, real: Tensor, fake: Tensor, rng: torch.Generator) -> Tensor:
        u = torch.rand((len(real), 1, 1, 1), generator=rng, device=rng.device, dtype=real.dtype)
        norms = slopes(judge, torch.lerp(real, fake, u)).flatten(1).norm(dim=1)  # [B]
        return self.weight * (norms - self.target).square().mean() / self.target**2


@final
@dataclass(frozen=True)
class R1:
    """gamma / 2 E |grad s(x)|^2 at real pictures.

    Attributes:
        gamma: twice the weight.
    """

    gamma: float = 10.0

    def __call__(self, judge: Judge, real: Tensor, fake: Tensor, rng: torch.Generator) -> Tensor:
        return self.gamma / 2 * slopes(judge, real).flatten(1).square().sum(1).mean()
