r"""Classifier-free guidance: away from what the negative condition suggests, towards what the positive one does.

Ho, Salimans 2022, arXiv 2207.12598, Eq. 6, on beliefs instead of noise (both are affine in each other, so it is the
same sum), with w = `scale`:

    x_0 = x_0^neg + w (x_0^pos - x_0^neg)

w = 0 is the negative belief, w = 1 the positive one. With exact beliefs the score at t is that of p_t(x|c)^w
p_t(x)^(1-w), but these are no marginals of one process: what is drawn is not p(x|c)^w p(x)^(1-w). On the library's
mixture that law is, for a class of mean 1.5 and variance 0.100 which hardly overlaps with others, the class itself
whatever w is; guidance draws mean 1.69 and variance 0.057 at w = 2, 1.91 and 0.039 at w = 4 (exact, by the guided
flow's change of variables).

Rescale: Lin, Liu, Li, Yang 2023, arXiv 2305.08891, Eq. 15-16, with the standard deviations of the believed datum.
Interval: Kynkaanniemi, Aittala, Karras, Laine, Aila, Lehtinen 2024, arXiv 2404.07724: guide at some times only.
Book: chapter 4, "Guidance".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from huggingvis.core.belief import Belief, Categorical, Gaussian
from huggingvis.core.errors import UsageError
from huggingvis.core.protocols import Cond, Denoiser
from huggingvis.core.shapes import expand

SYSTEM = {
    "name": "Classifier-free guidance",
    "chapter": 4,
    "paper": "2207.12598",
    "files": ["core/belief.py", "recipes/classes.py"],
    "built": "tests/walks/test_samplers_by_name.py::test_guidance_moves_towards_a_class_and_away_from_another",
    "exact": [
        "tests/oracle/test_guidance.py::test_neutral_guidance_changes_no_bit",
        "tests/oracle/test_guidance.py::test_scale_zero_is_the_negative_belief",
        "tests/oracle/test_guidance.py::test_one_doubled_call_equals_two",
        "tests/oracle/test_guidance.py::test_guided_mixture_is_the_guided_score",
        "tests/oracle/test_guidance.py::test_the_law_that_guidance_draws",
    ],
    "trained": "benchmarks/curves/guidance_scale-tiny.json",
    "explained": None,
    "usable": None,
}

__all__ = ["ClassifierFree"]

NEGATIVE = "negative."


@final
@dataclass(frozen=True)
class ClassifierFree:
    """Classifier-free guidance: `scale` w, 1 is none (and one call of B, not 2B); `rescale` phi in [0, 1].

    `interval` (lo, hi): the times t at which guidance acts; outside, the positive belief is returned as it is. What to
    move away from sits in the condition under `negative.<key>`; a key without such a twin is shared by both halves.
    Raises `UsageError` where guidance is asked for and the condition has no negative half.
    """

    scale: float
    rescale: float = 0.0
    interval: tuple[float, float] = (0.0, 1.0)

    def __call__(self, denoise: Denoiser) -> Denoiser:
        def guided(x: Tensor, t: Tensor, cond: Cond) -> Belief:
            positive = {k: v for k, v in cond.items() if not k.startswith(NEGATIVE)}
            acts = (t >= self.interval[0]) & (t <= self.interval[1])  # [] or [B]
            if self.scale == 1.0 or not bool(acts.any()):
                return denoise(x, t, positive)
            neg, pos = both(denoise, x, t, positive, negative_of(cond))
            belief = towards(neg, pos, self.scale)
            if self.rescale > 0.0:
                belief = rescaled(belief, pos, self.rescale)
            return belief if bool(acts.all()) else _where(acts, belief, pos)

        return guided


def towards(neg: Belief, pos: Belief, scale: float) -> Belief:
    """neg + scale (pos - neg), for two beliefs of one kind; a variance is the positive one's."""
    if isinstance(neg, Gaussian) and isinstance(pos, Gaussian):
        return replace(pos, x0=neg.x0 + scale * (pos.x0 - neg.x0))
    if isinstance(neg, Categorical) and isinstance(pos, Categorical):
        return neg + scale * (pos - neg)
    raise TypeError(f"guidance combines beliefs of one kind, found {type(neg).__name__} and {type(pos).__name__}")


def negative_of(cond: Cond) -> dict[str, Tensor]:
    """The condition that guidance moves away from: `negative.*` without the prefix, and every shared key."""
    away = {k.removeprefix(NEGATIVE): v for k, v in cond.items() if k.startswith(NEGATIVE)}
    if not away:
        raise UsageError(
            "Guidance needs a condition to move away from, under keys such as 'negative.tokens'; found "
            f"{', '.join(sorted(cond)) or 'no condition at all'}. Use a guidance scale of 1 for a model without one."
        )
    return {k: v for k, v in cond.items() if not k.startswith(NEGATIVE)} | away


def both(denoise: Denoiser, x: Tensor, t: Tensor, positive: Cond, negative: Cond) -> tuple[Belief, Belief]:
    """(negative belief, positive belief) from one call on the doubled batch."""
    twice = torch.cat([x, x])  # [2B, ...]
    times = t if t.ndim == 0 else torch.cat([t, t])
    return denoise(twice, times, stacked(negative, positive)).halves()


def stacked(first: Cond, second: Cond) -> dict[str, Tensor]:
    """Two conditions as one batch [2B, ...]. Token sequences of different length are padded and masked.

    Raises `UsageError` where one half has a key that the other lacks, masks apart.
    """
    halves = _with_masks(dict(first), dict(second))
    if halves[0].keys() != halves[1].keys():
        odd = ", ".join(sorted(halves[0].keys() ^ halves[1].keys()))
        raise UsageError(f"The two conditions of guidance must have the same keys; only one of them has: {odd}.")
    return {k: torch.cat(_same_length(halves[0][k], halves[1][k])) for k in halves[1]}


def _with_masks(a: dict[str, Tensor], b: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Adds `<key>_mask` (all true) where sequences differ in length or only one half has a mask."""
    for key in [k for k in b if k in a and not k.endswith("_mask")]:
        mask = f"{key}_mask"
        if (a[key].ndim > 1 and a[key].shape[1] != b[key].shape[1]) or mask in a or mask in b:
            for half in (a, b):
                if mask not in half:
                    half[mask] = torch.ones(half[key].shape[:2], dtype=torch.bool, device=half[key].device)
    return a, b


def _same_length(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both padded at the end of dimension 1 with zeros (False in masks)."""
    if a.ndim < 2 or a.shape[1] == b.shape[1]:
        return a, b
    longest = max(a.shape[1], b.shape[1])
    padded = [F.pad(v, [0] * (2 * (v.ndim - 2)) + [0, longest - v.shape[1]]) for v in (a, b)]  # [B, longest, ...]
    return padded[0], padded[1]


def rescaled(belief: Belief, pos: Belief, phi: float) -> Belief:
    """Gives the guided datum back part of the positive datum's spread, per sample (Eq. 15-16)."""
    if not (isinstance(belief, Gaussian) and isinstance(pos, Gaussian)):
        raise TypeError("guidance rescale is defined for continuous data")
    dims = tuple(range(1, belief.x0.ndim))
    factor = pos.x0.std(dims, keepdim=True) / belief.x0.std(dims, keepdim=True)  # [B, 1, ...]
    return belief * (phi * factor + (1 - phi))


def _where(acts: Tensor, guided: Belief, pos: Belief) -> Belief:
    """Per sample: guided where guidance acts, else the positive belief, bit for bit."""
    if isinstance(guided, Gaussian) and isinstance(pos, Gaussian):
        return replace(pos, x0=torch.where(expand(acts, pos.x0).bool(), guided.x0, pos.x0))
    assert isinstance(guided, Categorical) and isinstance(pos, Categorical)
    return Categorical(torch.where(expand(acts, pos.logits).bool(), guided.logits, pos.logits))
