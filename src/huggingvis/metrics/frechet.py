r"""Fréchet distance between Gaussian fits of two sets of features; with Inception features it is known as FID.

M. Heusel, H. Ramsauer, T. Unterthiner, B. Nessler, S. Hochreiter, "GANs Trained by a Two Time-Scale Update Rule
Converge to a Local Nash Equilibrium" (2017), arXiv 1706.08500, equation 6:

    d^2 = |mu_a - mu_b|^2 + tr(S_a) + tr(S_b) - 2 tr((S_a S_b)^(1/2))

The square root of the non-symmetric S_a S_b is never formed. With factors S = F^T F its trace is the sum of the
singular values of F_a F_b^T, since (S_a S_b) and (F_a F_b^T)(F_a F_b^T)^T share their non-zero eigenvalues. F comes
from the symmetric eigendecomposition of S; or, with fewer samples than dimensions, F is the centred features
themselves over sqrt(n - 1), and nothing of size D x D appears. All in float64.

The distance of finite samples is biased upwards, by an amount that falls as 1 / n: compare only at equal n, or see
`frechet_infinity`.
Book: chapter 9, "Judges".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.shapes import double
from huggingvis.metrics.bootstrap import Interval, check_resampling
from huggingvis.metrics.features import Features, as_features, check_comparable


@dataclass(frozen=True)
class Moments:
    """Count, mean and scatter of features, in float64; a value: `add` and `merge` return new ones.

    `mean` [D]; `scatter` [D, D], the sum of (x - mean)(x - mean)^T. Sums of squares are never subtracted, so features
    far from zero keep their digits (Chan, Golub and LeVeque 1983).
    """

    n: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def empty(cls, dim: int) -> Moments:
        """No features yet, of `dim` dimensions."""
        return cls(0, torch.zeros(dim, dtype=torch.float64), torch.zeros(dim, dim, dtype=torch.float64))

    @classmethod
    def of(cls, features: Tensor) -> Moments:
        """The moments of `features` [N, D]."""
        x = as_features(features)
        mean = x.mean(0)  # [D]
        centred = x - mean  # [N, D]
        return cls(len(x), mean, centred.T @ centred)

    @classmethod
    def stream(cls, extract: Features, batches: Iterable[Tensor]) -> Moments:
        """The moments of the features of all images in `batches`, which are seen once and not kept."""
        total: Moments | None = None
        with torch.no_grad():
            for images in batches:
                part = cls.of(extract(images))
                total = part if total is None else total.merge(part)
        if total is None:
            raise UsageError("There are no images to take features of. Give at least one batch.")
        return total

    def add(self, features: Tensor) -> Moments:
        """With `features` [N, D] counted in."""
        return self.merge(Moments.of(features))

    def merge(self, other: Moments) -> Moments:
        """The moments of both sets together. Raises `UsageError` for unequal dimensions."""
        _check_dimensions(self, other)
        n = self.n + other.n
        if n == 0:
            return self
        shift = other.mean - self.mean  # [D]
        scatter = self.scatter + other.scatter + torch.outer(shift, shift) * (self.n * other.n / n)
        return Moments(n, self.mean + shift * (other.n / n), scatter)

    @property
    def covariance(self) -> Tensor:
        """Unbiased covariance [D, D]; zero for a single sample."""
        return self.scatter / max(self.n - 1, 1)


def frechet_gaussian(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> float:
    """Squared Fréchet distance of two Gaussians given by `mean` [D] and symmetric `covariance` [D, D]."""
    return _distance(double(mean_a), _factor(double(covariance_a)), double(mean_b), _factor(double(covariance_b)))


def frechet_moments(a: Moments, b: Moments) -> float:
    """Squared Fréchet distance of the Gaussian fits given by two `Moments` of at least two samples each."""
    _check_dimensions(a, b)
    if min(a.n, b.n) < 2:
        raise UsageError(f"A Gaussian fit needs at least 2 samples; found {a.n} and {b.n}.")
    return frechet_gaussian(a.mean, a.covariance, b.mean, b.covariance)


def frechet(features_a: Tensor, features_b: Tensor) -> float:
    """Squared Fréchet distance between the Gaussian fits of `features_a` [N, D] and `features_b` [M, D]; N, M >= 2.

    Raises `UsageError` for shapes that cannot be compared, `NumericalTrouble` for NaN or infinity.
    """
    a, b = as_features(features_a), as_features(features_b)
    check_comparable(a, b)
    return _distance(*_fit(a), *_fit(b))


def frechet_interval(
    features_a: Tensor, features_b: Tensor, *, level: float = 0.95, resamples: int = 200, seed: int = 0
) -> Interval:
    """`frechet` with a bootstrap interval over both sets; `n` is the smaller of N and M.

    A resample repeats samples and so adds the small-sample bias a second time: all resampled distances lie too high.
    The interval is therefore centred: value + (quantile - mean of the resampled distances), and not below 0. It tells
    the spread at this n, not the bias. Each resample costs what `frechet` costs.
    """
    check_resampling(level, resamples)
    a, b = as_features(features_a), as_features(features_b)
    value = frechet(a, b)
    rng = np.random.default_rng(seed)
    distances = np.empty(resamples)
    for i in range(resamples):
        rows_a = torch.from_numpy(rng.integers(0, len(a), size=len(a)))
        rows_b = torch.from_numpy(rng.integers(0, len(b), size=len(b)))
        distances[i] = _distance(*_fit(a[rows_a]), *_fit(b[rows_b]))
    low, high = np.quantile(distances - distances.mean(), [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, max(0.0, value + float(low)), max(0.0, value + float(high)), level, min(len(a), len(b)))


def _fit(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [D] and covariance factor F [r, D], r = min(N, D), of features `x` [N, D]: F^T F is the covariance."""
    mean = x.mean(0)  # [D]
    scaled = (x - mean) / (len(x) - 1) ** 0.5  # [N, D]
    return mean, scaled if len(x) <= x.shape[1] else _factor(scaled.T @ scaled)


def _factor(covariance: Tensor) -> Tensor:
    """F [D, D] with F^T F = `covariance` [D, D]; eigenvalues below 0, which only rounding makes, count as 0."""
    values, vectors = torch.linalg.eigh(covariance)  # [D], [D, D]
    factor: Tensor = vectors * values.clamp_min(0).sqrt()  # [D, D]
    return factor.T


def _distance(mean_a: Tensor, factor_a: Tensor, mean_b: Tensor, factor_b: Tensor) -> float:
    """Equation 6 from means [D] and covariance factors [r, D]; not below 0, where rounding would take equal fits."""
    cross = torch.linalg.svdvals(factor_a @ factor_b.T).sum()  # tr((S_a S_b)^(1/2))
    total = (mean_a - mean_b).square().sum() + factor_a.square().sum() + factor_b.square().sum() - 2 * cross
    return max(0.0, float(total))


def _check_dimensions(a: Moments, b: Moments) -> None:
    if a.mean.shape != b.mean.shape:
        raise UsageError(
            f"Both moments must come from the same extractor, but they have {len(a.mean)} and {len(b.mean)} dimensions."
        )
