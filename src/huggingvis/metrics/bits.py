r"""Bits per dimension: what a model pays, on average, for one value of a picture.

A density p over [-1, 1] becomes a probability of one of `levels` equal bins by their width 2 / levels, if it was
trained on values spread evenly over their bins, x = 2 (v + u) / levels - 1 with u ~ U[0, 1) (Theis, van den Oord &
Bethge 2015, arXiv 1511.01844, Sec. 3.1, which shows that the mean of log p then bounds the log-probability from below):

    bits/dim = -(log p(x) / D + log(2 / levels)) / log 2

Book: chapter 3, "What a likelihood tells".
"""

from __future__ import annotations

import math

from torch import Tensor

from huggingvis.core.errors import UsageError


def bits_per_dim(nats: Tensor, dims: int, levels: int | None = 256) -> Tensor:
    """Bits per value, float64 [B] on the CPU, of pictures with `dims` values (C H W) and log-likelihoods `nats` [B].

    `levels`: bins that [-1, 1] is cut into, for a density over [-1, 1]; None where `nats` are log-probabilities of
    discrete values already. Raises `UsageError` for numbers below 1.
    """
    if dims < 1 or (levels is not None and levels < 1):
        raise UsageError(f"A picture has at least one value and one level, found {dims} values and {levels} levels.")
    width = 1.0 if levels is None else 2.0 / levels
    return -(nats.detach().cpu().double() / dims + math.log(width)) / math.log(2)
