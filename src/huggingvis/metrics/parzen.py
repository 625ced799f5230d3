r"""Gaussian Parzen window: log-likelihood of held-out pictures under a kernel density of generated ones.

Breuleux, Bengio & Vincent 2011; used by Goodfellow et al. 2014 (arXiv 1406.2661, Sec. 5, Table 1) and Mirza & Osindero
2014 (arXiv 1411.1784, Table 1). With N generated pictures s_i of D pixels in [0, 1],

    log p(x) = log 1/N sum_i exp(-|x - s_i|^2 / (2 sigma^2)) - D/2 log(2 pi sigma^2)       nats

and sigma the one of ten between 0.1 and 1 that makes pictures for validation likeliest. It favours blur and memory over
good samples (Theis, van den Oord & Bethge 2015, arXiv 1511.01844): a number to compare with the papers', no more.
Book: chapter 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.shapes import check_finite, double

SIGMAS = tuple(10 ** (-1 + i / 9) for i in range(10))
"""Kernel widths from 0.1 to 1 in equal ratios, as in the authors' code."""


@dataclass(frozen=True)
class ParzenScore:
    """Mean log-likelihood of `n` pictures in nats, its standard error, and the kernel width in units of [0, 1]."""

    mean: float
    error: float
    sigma: float
    n: int


def parzen_log_prob(samples: Tensor, x: Tensor, sigma: float, chunk: int = 1000) -> Tensor:
    """log p(x) in nats, [M] float64, of rows `x` [M, D] under kernels of width `sigma` on rows `samples` [N, D].

    Memory is N times `chunk`. Raises `UsageError` for other shapes or widths, `NumericalTrouble` for NaN or infinity.
    """
    if samples.ndim != 2 or x.ndim != 2 or samples.shape[1] != x.shape[1] or 0 in (*samples.shape, *x.shape):
        raise UsageError(
            f"A Parzen window compares rows [N, D] with rows [M, D]; found {list(samples.shape)} and {list(x.shape)}."
        )
    if not sigma > 0:
        raise UsageError(f"The width of a kernel is positive, found {sigma}; the papers try 0.1 to 1.")
    s, x = (check_finite(double(rows.detach()), "The picture") for rows in (samples, x))
    squares = s.square().sum(1)  # [N]
    parts = []
    for rows in x.split(chunk):
        distances = (rows.square().sum(1, keepdim=True) + squares - 2 * rows @ s.T).clamp(min=0)  # [m, N]
        parts.append(torch.logsumexp(-distances / (2 * sigma**2), dim=1))
    constant = math.log(len(s)) + 0.5 * x.shape[1] * math.log(2 * math.pi * sigma**2)
    return torch.cat(parts) - constant


def parzen(samples: Tensor, validation: Tensor, x: Tensor, sigmas: Sequence[float] = SIGMAS) -> ParzenScore:
    """The papers' score of generated pictures `samples` on held-out `x`, all [N, C, H, W] in [-1, 1].

    The width is chosen on `validation`, which must not be `x` itself nor have trained the generator.
    Raises as `parzen_log_prob`.
    """
    rows = [((double(p.detach()) + 1) / 2).flatten(1) for p in (samples, validation, x)]  # [N, D] in [0, 1]
    scores = {sigma: float(parzen_log_prob(rows[0], rows[1], sigma).mean()) for sigma in sigmas}
    best = max(scores, key=lambda sigma: scores[sigma])
    found = parzen_log_prob(rows[0], rows[2], best)
    error = float(found.std(correction=0)) / math.sqrt(len(found))
    return ParzenScore(float(found.mean()), error, best, len(found))
