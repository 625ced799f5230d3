r"""Perceptual path length: how much a picture changes, to the eye, for a small step on the way between two latents.

T. Karras, S. Laine, T. Aila, "A Style-Based Generator Architecture for Generative Adversarial Networks" (2018), arXiv
1812.04948, Sec. 4.1, Eq. 2 and 3:

    l_Z = E 1/eps^2 d(G(slerp(z1, z2; t)), G(slerp(z1, z2; t + eps))),    l_W the same of lerp between styles w

with eps = 1e-4 and t even on [0, 1] ("full") or 0 ("end"). The paper's d is the weighted squared distance of VGG
features; here it is the squared distance of any features, so numbers compare only under the same ones. As in the
paper's published code the smallest and the largest hundredth of the distances are left out. Book: chapter 9, "Judges".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.shapes import check_finite, double, expand
from huggingvis.metrics.features import Features

Way = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Latents a and b [B, ...] and shares t [B] -> latents on the way, a at 0 and b at 1."""


def line(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """lerp: the way between styles."""
    return a + expand(t, a) * (b - a)


def great_circle(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """slerp (Shoemake 1985): directions turn evenly and lengths change evenly, the way between draws of N(0, I)."""
    flat_a, flat_b = a.flatten(1), b.flatten(1)
    la, lb = flat_a.norm(dim=1, keepdim=True), flat_b.norm(dim=1, keepdim=True)  # [B, 1]
    ua, ub, t = flat_a / la, flat_b / lb, t.to(flat_a)[:, None]
    angle = torch.arccos((ua * ub).sum(1, keepdim=True).clamp(-1, 1))
    straight = torch.sin(angle) < 1e-4  # one direction or opposite ones: no circle, or no single one
    share = torch.where(straight, 1 - t, torch.sin((1 - t) * angle)), torch.where(straight, t, torch.sin(t * angle))
    turned = (share[0] * ua + share[1] * ub) / torch.where(straight, torch.ones_like(angle), torch.sin(angle))
    return (turned * (la + t * (lb - la))).reshape(a.shape)


@dataclass(frozen=True)
class Steps:
    """Where and how far one steps.

    Attributes:
        epsilon: of the way.
        at_ends: at t = 0 ("end") instead of anywhere ("full").
        trim: share of the smallest and of the largest distances left out.
        seed: of t.
    """

    epsilon: float = 1e-4
    at_ends: bool = False
    trim: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < 1 or not 0 <= self.trim < 0.5:
            raise UsageError(f"A step lies in (0, 1) and what is trimmed in [0, 0.5), found {self}.")

    def generator(self) -> torch.Generator:
        """What places on the ways are drawn from."""
        return torch.Generator().manual_seed(self.seed)


@dataclass(frozen=True)
class PathLength:
    """The mean over `n` ways that were kept, and its standard error."""

    mean: float
    error: float
    n: int


def path_length(
    decode: Callable[[Tensor], Tensor],
    ends: Iterable[tuple[Tensor, Tensor]],
    features: Features,
    *,
    way: Way = line,
    steps: Steps = Steps(),
) -> PathLength:
    """Of the pictures [B, C, H, W] that `decode` makes of latents, on the way between `ends`, batches [B, ...] of both.

    `line` with styles (for example `Latent.latents` of a style-based generator), `great_circle` with normal latents.
    `decode` must be a function: fixed noise, evaluation mode. Raises `UsageError` for no ends, `NumericalTrouble` for
    features that are not finite.
    """
    rng = steps.generator()
    return trimmed_mean([changes(decode, pair, features, way, steps, rng) for pair in ends], steps.trim)


@torch.no_grad()
def changes(
    decode: Callable[[Tensor], Tensor],
    ends: tuple[Tensor, Tensor],
    features: Features,
    way: Way,
    steps: Steps,
    rng: torch.Generator,
) -> Tensor:
    """1/eps^2 d of one step on each way between two batches of latents, float64 [B] on the CPU."""
    a, b = ends
    t = torch.zeros(len(a)) if steps.at_ends else torch.rand(len(a), generator=rng)
    t = t.to(a) * (1 - steps.epsilon)
    before, after = (double(features(decode(way(a, b, at)))) for at in (t, t + steps.epsilon))  # [B, D]
    return ((after - before) / steps.epsilon).square().sum(1).cpu()


def trimmed_mean(parts: Sequence[Tensor], trim: float) -> PathLength:
    """Of all changes but the smallest and the largest. Raises as `path_length`."""
    if not parts:
        raise UsageError("There is no way to measure. Give at least one batch of ends.")
    each = check_finite(torch.cat(list(parts)), "The features").sort().values
    left_out = math.floor(trim * len(each))
    kept = each[left_out : len(each) - left_out]
    return PathLength(float(kept.mean()), float(kept.std(correction=0)) / math.sqrt(len(kept)), len(kept))
