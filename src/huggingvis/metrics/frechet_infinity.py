r"""Fréchet distance extrapolated to infinitely many samples (FID infinity).

M. J. Chong, D. Forsyth, "Effectively Unbiased FID and Inception Score and where to find them" (2020), arXiv 1911.07023.
The expected distance of n generated samples is FID_inf + c / n + O(1 / n^2), with a c that depends on the model: so
two models compared at equal n can come out in the wrong order. A straight line through distances at several n,
against 1 / n, meets the axis at FID_inf. Book: chapter 9, "Judges".
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.metrics.features import as_features, check_comparable
from huggingvis.metrics.frechet import Moments, frechet_moments


def frechet_infinity(
    generated: Tensor, reference: Tensor | Moments, *, points: int = 15, smallest: int | None = None, seed: int = 0
) -> float:
    """Extrapolated squared Fréchet distance of `generated` [N, D] to `reference` ([M, D] or its moments).

    `points` subset sizes equally spaced from `smallest` (default N / 10, at least 2) to N, each drawn anew without
    replacement. Only the bias of the generated side is removed; take a large reference. May come out below 0.
    """
    x = as_features(generated)
    target = reference if isinstance(reference, Moments) else Moments.of(reference)
    check_comparable(x, target.mean.expand(2, -1))
    first = max(2, len(x) // 10) if smallest is None else smallest
    if points < 2 or not 2 <= first < len(x):
        raise UsageError(
            f"The line needs at least 2 points and sizes from 2 up to the {len(x)} samples there are; found "
            f"points={points}, smallest={first}. Give more samples or a smaller size."
        )
    rng = np.random.default_rng(seed)
    sizes = np.linspace(first, len(x), points).round().astype(int)
    distances = [
        frechet_moments(Moments.of(x[torch.from_numpy(rng.permutation(len(x))[:size])]), target) for size in sizes
    ]
    _, intercept = np.polyfit(1.0 / sizes, distances, 1)
    return float(intercept)
