r"""Bootstrap confidence intervals: how far a measured mean would move on other samples of the same size.

B. Efron, "Better Bootstrap Confidence Intervals", JASA 82 (1987); Efron and Tibshirani, "An Introduction to the
Bootstrap" (1993), chapters 13 and 14. From B resampled means m*, the percentile interval takes the quantiles
(1 -+ level) / 2 of m*. The bias-corrected and accelerated interval (BCa) shifts those quantiles,

    q' = Phi(z0 + (z0 + z_q) / (1 - a (z0 + z_q)))                                          (1993, section 14.3)
    z0 = Phi^-1(share of m* below the mean, half the ties)      a = sum d^3 / (6 (sum d^2)^(3/2)),  d_i = x_i - mean

and so follows the skew of the data. Where all values are equal the bootstrap sees no spread and the interval has zero
width: then quote `n` beside it. Book: chapter 9, "Judges".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

import numpy as np
from torch import Tensor

from huggingvis.core.errors import NumericalTrouble, UsageError

Values = Sequence[float] | np.ndarray | Tensor

_DRAWS_AT_ONCE = 1 << 22  # resampled indices held in memory together: 32 MiB


@dataclass(frozen=True)
class Interval:
    """A measured `value` with its confidence interval [`low`, `high`] at `level`, from `n` independent samples."""

    value: float
    low: float
    high: float
    level: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


class Bounds(Protocol):
    """Turns resampled means [B] of `values` [n] into the two bounds at `level`."""

    def __call__(self, resampled: np.ndarray, values: np.ndarray, level: float) -> tuple[float, float]: ...


def percentile(resampled: np.ndarray, values: np.ndarray, level: float) -> tuple[float, float]:
    """The quantiles (1 -+ level) / 2 of the resampled means (Efron and Tibshirani 1993, section 13.3)."""
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bca(resampled: np.ndarray, values: np.ndarray, level: float) -> tuple[float, float]:
    """Bias-corrected and accelerated bounds of a mean (Efron 1987); equal to `percentile` where nothing is skewed."""
    deviation = values - values.mean()
    square = float((deviation**2).sum())
    if square == 0.0:
        return percentile(resampled, values, level)
    normal = NormalDist()
    acceleration = float((deviation**3).sum()) / (6 * square**1.5)
    below = float((resampled < values.mean()).mean() + 0.5 * (resampled == values.mean()).mean())
    edge = 0.5 / len(resampled)
    z0 = normal.inv_cdf(min(max(below, edge), 1 - edge))
    quantiles = []
    for q in ((1 - level) / 2, (1 + level) / 2):
        z = z0 + normal.inv_cdf(q)
        quantiles.append(normal.cdf(z0 + z / max(1 - acceleration * z, 1e-9)))
    low, high = np.quantile(resampled, quantiles)
    return float(low), float(high)


def bootstrap_mean(
    values: Values, *, level: float = 0.95, resamples: int = 2000, seed: int = 0, bounds: Bounds = bca
) -> Interval:
    """Interval of the mean of independent `values` [n], the same for the same seed.

    Raises `UsageError` for no values or a level outside (0, 1), `NumericalTrouble` for NaN or infinity.
    """
    x = _checked(values, level, resamples)
    low, high = bounds(_resampled_means(x, resamples, seed), x, level)
    return Interval(float(x.mean()), low, high, level, len(x))


def paired_difference(
    a: Values, b: Values, *, level: float = 0.95, resamples: int = 2000, seed: int = 0, bounds: Bounds = bca
) -> Interval:
    """Interval of mean(a) - mean(b), where `a` [n] and `b` [n] were measured on the same n things, in the same order.

    Pairs are resampled together, so what the two share (hard and easy things) does not widen the interval.
    Raises as `bootstrap_mean`, and `UsageError` for unequal lengths.
    """
    x, y = _checked(a, level, resamples), _checked(b, level, resamples)
    if len(x) != len(y):
        raise UsageError(
            f"A paired difference needs one value of each kind per thing, but found {len(x)} and {len(y)}. "
            "Measure both on the same things, in the same order."
        )
    return bootstrap_mean(x - y, level=level, resamples=resamples, seed=seed, bounds=bounds)


def check_resampling(level: float, resamples: int) -> None:
    """Raises `UsageError` for a level outside (0, 1) or no resamples."""
    if not 0 < level < 1 or resamples < 1:
        raise UsageError(
            f"The level lies between 0 and 1 and there is at least one resample; found level={level}, "
            f"resamples={resamples}. Usual are 0.95 and 2000."
        )


def _resampled_means(x: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means [B] of `resamples` draws of len(x) values with replacement."""
    rng = np.random.default_rng(seed)
    rows = max(1, _DRAWS_AT_ONCE // len(x))
    chunks = []
    for start in range(0, resamples, rows):
        index = rng.integers(0, len(x), size=(min(rows, resamples - start), len(x)))  # [rows, n]
        chunks.append(x[index].mean(axis=1))  # [rows]
    return np.concatenate(chunks)


def _checked(values: Values, level: float, resamples: int) -> np.ndarray:
    """`values` as float64 [n], or the error that says what is wrong with them."""
    raw = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    x = np.asarray(raw, dtype=np.float64)
    if x.ndim != 1 or len(x) == 0:
        raise UsageError(f"A bootstrap needs a list of at least one number; found an array of shape {list(x.shape)}.")
    check_resampling(level, resamples)
    if not np.isfinite(x).all():
        raise NumericalTrouble(
            f"{int((~np.isfinite(x)).sum())} of {len(x)} values are NaN or infinite, so they have no mean. "
            "Leave them out, or mend what produced them."
        )
    return x
