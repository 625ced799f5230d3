r"""Kernel distance between two sets of features (KID): squared maximum mean discrepancy with a cubic kernel.

M. Bińkowski, D. J. Sutherland, M. Arbel, A. Gretton, "Demystifying MMD GANs" (2018), arXiv 1801.01401:

    k(x, y) = (x^T y / D + 1)^3
    KID = mean over i != j of k(a_i, a_j)  +  mean over i != j of k(b_i, b_j)  -  2 mean over i, j of k(a_i, b_j)

Unlike the Fréchet distance it assumes no Gaussian and is unbiased at every n, so it may fall below 0 for equal
distributions; small sets are enough. Book: chapter 9, "Judges".
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from huggingvis.metrics.bootstrap import Interval, check_resampling
from huggingvis.metrics.features import as_features, check_comparable


def kid(features_a: Tensor, features_b: Tensor) -> float:
    """Unbiased KID of `features_a` [N, D] and `features_b` [M, D]; N, M >= 2. Memory grows as (N + M)^2.

    Raises `UsageError` for shapes that cannot be compared, `NumericalTrouble` for NaN or infinity.
    """
    a, b = as_features(features_a), as_features(features_b)
    check_comparable(a, b)
    return float(kernel_distance(a, b))


def kernel_distance(a: Tensor, b: Tensor) -> Tensor:
    """The same of features `a` [N, D] and `b` [M, D] as they are, [], for whoever needs its gradient."""
    ones_a, ones_b = a.new_ones(1, len(a)), b.new_ones(1, len(b))
    return _weighted(_kernel(a, a), _kernel(b, b), _kernel(a, b), ones_a, ones_b).squeeze(0)


def kid_interval(
    features_a: Tensor, features_b: Tensor, *, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> Interval:
    """`kid` with a percentile bootstrap interval over both sets; `n` is the smaller of N and M.

    A resample is a vector of counts on the rows; a row is never paired with its own copies, whose kernel would
    count as evidence and bias the resampled values upwards. A resample of one row alone, which has no pairs, is left
    out. Kernels are computed once.
    """
    check_resampling(level, resamples)
    a, b = as_features(features_a), as_features(features_b)
    value = kid(a, b)
    rng = np.random.default_rng(seed)
    counts_a = torch.from_numpy(rng.multinomial(len(a), np.full(len(a), 1 / len(a)), size=resamples)).double()
    counts_b = torch.from_numpy(rng.multinomial(len(b), np.full(len(b), 1 / len(b)), size=resamples)).double()
    paired = ((counts_a > 0).sum(1) > 1) & ((counts_b > 0).sum(1) > 1)
    values = _weighted(_kernel(a, a), _kernel(b, b), _kernel(a, b), counts_a[paired], counts_b[paired])  # [R]
    low, high = np.quantile(values.numpy(), [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), level, min(len(a), len(b)))


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """k(x_i, y_j), [N, M]."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def _weighted(kaa: Tensor, kbb: Tensor, kab: Tensor, w: Tensor, v: Tensor) -> Tensor:
    """KID [R] for rows of counts `w` [R, N] on a and `v` [R, M] on b."""
    across = ((w @ kab) * v).sum(1) / (w.sum(1) * v.sum(1))  # [R]
    return _within(kaa, w) + _within(kbb, v) - 2 * across


def _within(k: Tensor, w: Tensor) -> Tensor:
    """Weighted mean [R] of `k` [N, N] over i != j for counts `w` [R, N]."""
    pairs = w.sum(1) ** 2 - w.square().sum(1)  # [R]
    return (((w @ k) * w).sum(1) - w.square() @ k.diagonal()) / pairs
