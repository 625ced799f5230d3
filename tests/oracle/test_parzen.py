"""The Parzen window against scikit-learn's kernel density and a case known exactly."""

from __future__ import annotations

import math

import pytest
import torch

from huggingvis.core.errors import NumericalTrouble, UsageError
from huggingvis.metrics.parzen import SIGMAS, parzen, parzen_log_prob


def drawn(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_equal_to_scikit_learn() -> None:
    from sklearn import neighbors

    samples, x = drawn(60, 7, 0), drawn(25, 7, 1)
    for sigma in (0.1, 0.35, 1.0):
        reference = neighbors.KernelDensity(bandwidth=sigma, kernel="gaussian").fit(samples.numpy())
        want = torch.from_numpy(reference.score_samples(x.numpy()))
        assert torch.allclose(parzen_log_prob(samples, x, sigma, chunk=7), want, rtol=0, atol=1e-6)


def test_one_sample_is_one_normal() -> None:
    s, x = drawn(1, 5, 0), drawn(9, 5, 1)
    normal = torch.distributions.Normal(s[0], 0.4).log_prob(x).sum(1)
    assert torch.allclose(parzen_log_prob(s, x, 0.4), normal, atol=1e-9)


def test_width_is_chosen_on_validation_and_pixels_are_in_unit_range() -> None:
    """Samples and data N(1/2, 0.05^2) in [0, 1]: with many samples in few dimensions the narrowest width wins."""
    pictures = [(0.1 * drawn(n, 2, i)).reshape(n, 1, 1, 2) for i, n in enumerate((4000, 300, 300))]
    score = parzen(pictures[0], pictures[1], pictures[2])
    assert score.sigma == SIGMAS[0] == 0.1 and score.n == 300 and SIGMAS[-1] == pytest.approx(1.0)
    smoothed = torch.distributions.Normal(0.5, math.hypot(0.05, 0.1)).log_prob((pictures[2] + 1) / 2).flatten(1).sum(1)
    assert score.mean == pytest.approx(float(smoothed.mean()), abs=0.03)
    assert score.error == pytest.approx(float(smoothed.std()) / math.sqrt(300), rel=0.1)
    far = parzen(pictures[0], pictures[1] + 3, pictures[2] + 3)
    assert far.sigma == pytest.approx(1.0) and far.mean < score.mean  # data where no sample is: the widest wins


def test_errors() -> None:
    with pytest.raises(UsageError, match=r"rows \[N, D\]"):
        parzen_log_prob(drawn(3, 2, 0), drawn(3, 4, 0), 0.1)
    with pytest.raises(UsageError, match="positive"):
        parzen_log_prob(drawn(3, 2, 0), drawn(3, 2, 0), 0.0)
    with pytest.raises(NumericalTrouble):
        parzen_log_prob(drawn(3, 2, 0) * math.nan, drawn(3, 2, 0), 0.1)
