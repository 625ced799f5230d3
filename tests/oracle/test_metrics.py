"""Metrics of numbers, features and pixels against closed forms and reference implementations."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from huggingvis.core.errors import NumericalTrouble, UsageError
from huggingvis.metrics.bootstrap import Bounds, Interval, bca, bootstrap_mean, paired_difference, percentile
from huggingvis.metrics.features import gather
from huggingvis.metrics.frechet import Moments, frechet, frechet_gaussian, frechet_interval, frechet_moments
from huggingvis.metrics.frechet_infinity import frechet_infinity
from huggingvis.metrics.kid import kid, kid_interval
from huggingvis.metrics.psnr import psnr
from huggingvis.metrics.ssim import ssim


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spd(d: int, seed: int) -> Tensor:
    a = normal(d, d, seed=seed)
    return a @ a.T / d


# --- bootstrap


@pytest.mark.parametrize(("bounds", "least"), [(percentile, 0.88), (bca, 0.90)], ids=["percentile", "bca"])
def test_bootstrap_covers_the_true_mean_of_skewed_data(bounds: Bounds, least: float) -> None:
    """Exponential draws, mean 1: about 95 % of the intervals must hold 1; skew and n = 40 cost a little."""
    rng = np.random.default_rng(1)
    samples = rng.exponential(size=(400, 40))
    hits = [i.low <= 1.0 <= i.high for s in samples for i in [bootstrap_mean(s, resamples=500, bounds=bounds)]]
    assert least <= np.mean(hits) <= 0.98


def test_bootstrap_of_normal_data_equals_the_normal_interval() -> None:
    x = np.random.default_rng(2).normal(5, 2, size=2000)
    got = bootstrap_mean(x, resamples=4000)
    half = 1.96 * x.std() / len(x) ** 0.5
    assert got.value == pytest.approx(x.mean(), abs=1e-12)
    assert (got.high - got.value, got.value - got.low) == (pytest.approx(half, rel=0.06),) * 2
    assert (got.level, got.n) == (0.95, 2000)


def test_bca_follows_the_skew_and_stays_in_the_data_range() -> None:
    rare = np.r_[np.zeros(96), np.ones(4)]
    skewed, plain = bootstrap_mean(rare), bootstrap_mean(rare, bounds=percentile)
    assert skewed.high > plain.high and skewed.low >= plain.low
    assert 0 < skewed.low < 0.04 < skewed.high < 0.15
    assert bootstrap_mean([1.0] * 9) == Interval(1.0, 1.0, 1.0, 0.95, 9)


def test_bootstrap_is_deterministic_by_seed() -> None:
    x = normal(50)
    assert bootstrap_mean(x, seed=3) == bootstrap_mean(x, seed=3) != bootstrap_mean(x, seed=4)


def test_paired_difference_ignores_what_the_pairs_share() -> None:
    hard = np.random.default_rng(0).normal(0, 10, 300)
    small = np.random.default_rng(1).normal(0, 0.1, 300)
    got = paired_difference(hard + 0.5, hard + small)
    assert got.value == pytest.approx(0.5 - small.mean(), abs=1e-9)
    assert got.high - got.low < 0.03  # unpaired, it would be about 3.2


def test_bootstrap_refuses_what_has_no_mean() -> None:
    with pytest.raises(UsageError, match="at least one number"):
        bootstrap_mean([])
    with pytest.raises(UsageError, match=r"found level=95"):
        bootstrap_mean([1.0], level=95)
    with pytest.raises(UsageError, match="resamples=0"):
        frechet_interval(normal(5, 3), normal(5, 3), resamples=0)
    with pytest.raises(UsageError, match="found 2 and 3"):
        paired_difference([1, 2], [1, 2, 3])
    with pytest.raises(NumericalTrouble, match="1 of 2 values"):
        bootstrap_mean([1.0, float("nan")])


# --- Fréchet distance


def test_frechet_of_commuting_gaussians_is_the_sum_over_axes() -> None:
    a, b, shift = torch.tensor([4.0, 9.0, 0.0]), torch.tensor([1.0, 16.0, 25.0]), torch.tensor([1.0, 0.0, 2.0])
    rotation = torch.linalg.qr(normal(3, 3))[0]
    got = frechet_gaussian(
        torch.zeros(3), rotation @ a.double().diag() @ rotation.T, shift, rotation @ b.double().diag() @ rotation.T
    )
    assert got == pytest.approx(5 + (1 + 1 + 25), abs=1e-10)


@pytest.mark.parametrize("d", [2, 17, 64])
def test_frechet_of_non_commuting_gaussians_equals_the_matrix_square_root(d: int) -> None:
    a, b, mean = spd(d, 1), spd(d, 2), normal(d, seed=3)
    assert (a @ b - b @ a).abs().max() > 0.01
    root = np.real(scipy.linalg.sqrtm((a @ b).numpy()))
    want = float(mean.square().sum() + a.trace() + b.trace()) - 2 * np.trace(root)
    assert frechet_gaussian(torch.zeros(d), a, mean, b) == pytest.approx(want, rel=1e-8)


@pytest.mark.parametrize("n", [12, 40, 300])
def test_frechet_of_features_equals_that_of_their_moments(n: int) -> None:
    """Also for n < d = 40, where the covariance is singular and only the features' own rank is used."""
    a, b = normal(n, 40, seed=1) @ spd(40, 5), 0.5 + normal(n + 3, 40, seed=2)
    assert frechet(a, b) == pytest.approx(frechet_moments(Moments.of(a), Moments.of(b)), rel=1e-7)


def test_frechet_invariances() -> None:
    a, b = normal(200, 8, seed=1) @ spd(8, 3), 1 + normal(150, 8, seed=2)
    rotation = torch.linalg.qr(normal(8, 8, seed=4))[0]
    want = frechet(a, b)
    assert want > 1
    assert frechet(b, a) == pytest.approx(want, rel=1e-12)
    assert frechet(a @ rotation + 7, b @ rotation + 7) == pytest.approx(want, rel=1e-10)
    assert frechet(3 * a, 3 * b) == pytest.approx(9 * want, rel=1e-10)
    assert frechet(a, a) == pytest.approx(0, abs=1e-12)
    assert frechet(a[:5], a[:5] + 2) == pytest.approx(8 * 4, rel=1e-12)


def test_streamed_moments_equal_the_whole_far_from_zero() -> None:
    x = normal(500, 6) @ spd(6, 1) + 1e6
    streamed = Moments.empty(6)
    for part in x.split(77):
        streamed = streamed.add(part)
    assert streamed.n == 500
    np.testing.assert_allclose(streamed.mean, x.mean(0), rtol=1e-14)
    np.testing.assert_allclose(streamed.covariance, np.cov(x.numpy().T), rtol=1e-8, atol=1e-9)
    by_callable = Moments.stream(lambda images: images.flatten(1), x.reshape(500, 6, 1, 1).split(100))
    np.testing.assert_allclose(by_callable.covariance, streamed.covariance, rtol=1e-8, atol=1e-9)


def test_frechet_interval_tells_the_spread_over_repetitions() -> None:
    """Its width equals that of the distances of freshly drawn sets; the value lies inside despite the bias."""
    draws = [frechet(normal(200, 4, seed=s), 0.3 + normal(200, 4, seed=900 + s)) for s in range(200)]
    got = frechet_interval(normal(200, 4, seed=7), 0.3 + normal(200, 4, seed=907), resamples=300)
    assert got.low < got.value < got.high
    assert got.high - got.low == pytest.approx(np.ptp(np.quantile(draws, [0.025, 0.975])), rel=0.35)
    assert got.low < 4 * 0.09 < got.high
    assert got.n == 200
    biased = frechet_interval(normal(80, 24, seed=7), normal(80, 24, seed=8), resamples=50)
    assert biased.low < biased.value < biased.high


def test_frechet_infinity_removes_most_of_the_bias() -> None:
    """Generated and reference follow one law, so the true distance is 0 and all of `frechet` is bias."""
    reference = Moments(10**6, torch.zeros(12).double(), torch.eye(12).double() * (10**6 - 1))
    sets = [normal(400, 12, seed=s) for s in range(8)]
    biased = np.mean([frechet_moments(Moments.of(x), reference) for x in sets])
    extrapolated = np.mean([frechet_infinity(x, reference) for x in sets])
    assert biased > 0.08
    assert abs(extrapolated) < 0.25 * biased


def test_features_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(UsageError, match="3 and 4 dimensions"):
        frechet(normal(5, 3), normal(5, 4))
    with pytest.raises(UsageError, match="at least 2 images"):
        kid(normal(1, 3), normal(5, 3))
    with pytest.raises(UsageError, match=r"found \[2, 3, 4\]"):
        frechet(normal(2, 3, 4), normal(5, 4))
    with pytest.raises(NumericalTrouble, match="The features"):
        frechet(normal(5, 3) / 0, normal(5, 3))
    with pytest.raises(UsageError, match="no images"):
        gather(lambda x: x.flatten(1), [])
    assert gather(lambda x: x.flatten(1), [normal(2, 3, 2, 2).float()] * 2).shape == (4, 12)


# --- KID


def test_kid_equals_its_definition() -> None:
    a, b = normal(6, 3, seed=1), 0.5 + normal(5, 3, seed=2)

    def mean(x: Tensor, y: Tensor, same: bool) -> float:
        pairs = [(float(p @ q) / 3 + 1) ** 3 for i, p in enumerate(x) for j, q in enumerate(y) if not (same and i == j)]
        return float(np.mean(pairs))

    assert kid(a, b) == pytest.approx(mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False), rel=1e-12)


def test_kid_is_unbiased_and_its_interval_holds_zero_for_equal_laws() -> None:
    values = [kid(normal(30, 4, seed=s), normal(30, 4, seed=500 + s)) for s in range(300)]
    assert abs(np.mean(values)) < 3 * np.std(values) / 300**0.5
    same = kid_interval(normal(200, 4, seed=1), normal(200, 4, seed=2))
    apart = kid_interval(normal(200, 4, seed=1), 1 + normal(200, 4, seed=2))
    assert same.low < 0 < same.high < apart.low < apart.value < apart.high


# --- PSNR and SSIM


def images(channels: int, seed: int) -> tuple[Tensor, Tensor]:
    a = torch.rand(3, channels, 32, 41, generator=torch.Generator().manual_seed(seed)).double() * 2 - 1
    return a, (a + 0.3 * normal(*a.shape, seed=seed)).clamp(-1, 1)


def test_psnr_equals_scikit_image_and_a_known_error() -> None:
    a, b = images(3, 0)
    want = [peak_signal_noise_ratio(x.numpy(), y.numpy(), data_range=2.0) for x, y in zip(a, b)]
    np.testing.assert_allclose(psnr(a, b, data_range=2.0), want, rtol=1e-12)
    assert psnr(a, a + 0.02, data_range=2.0).tolist() == pytest.approx([40.0] * 3, abs=1e-9)
    assert psnr(a, a, data_range=2.0).tolist() == [float("inf")] * 3


def test_background_psnr_sees_only_the_background() -> None:
    a, _ = images(3, 0)
    edited = torch.zeros(3, 1, 32, 41, dtype=torch.bool)
    edited[:, :, 5:20, 5:20] = True
    b = torch.where(edited, -a, a + 0.2)
    assert psnr(a, b, data_range=2.0, mask=~edited).tolist() == pytest.approx([20.0] * 3, abs=1e-9)
    assert (psnr(a, b, data_range=2.0, mask=edited) < 10).all()
    with pytest.raises(UsageError, match="no pixels to compare in image 0"):
        psnr(a, b, data_range=2.0, mask=torch.zeros(1, 1, 32, 41))


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_equals_scikit_image(channels: int) -> None:
    a, b = images(channels, 1)
    want = [
        structural_similarity(
            x.numpy(), y.numpy(), data_range=2.0, channel_axis=0,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        )
        for x, y in zip(a, b)
    ]  # fmt: skip
    assert max(want) < 0.95
    np.testing.assert_allclose(ssim(a, b, data_range=2.0), want, atol=1e-10)
    np.testing.assert_allclose(ssim(a.float(), b.float(), data_range=2.0), want, atol=1e-6)
    assert ssim(a, a, data_range=2.0).tolist() == pytest.approx([1.0] * 3, abs=1e-12)


def test_ssim_mask_keeps_the_edit_out() -> None:
    a, b = images(3, 2)
    edited = torch.zeros(1, 1, 32, 41, dtype=torch.bool)
    edited[:, :, :, 30:] = True
    mixed = torch.where(edited, -a, b)
    want = ssim(a[..., :30], b[..., :30], data_range=2.0)
    np.testing.assert_allclose(ssim(a, mixed, data_range=2.0, mask=~edited), want, atol=1e-12)
    with pytest.raises(UsageError, match="no whole 11 x 11 window"):
        ssim(a, b, data_range=2.0, mask=edited & (torch.arange(41) > 35))


def test_image_pairs_that_do_not_fit_are_refused() -> None:
    a, b = images(3, 0)
    with pytest.raises(UsageError, match="of one shape"):
        psnr(a, b[:, :1], data_range=2.0)
    with pytest.raises(UsageError, match=r"2 for \[-1, 1\]"):
        psnr(a, b, data_range=0)
    with pytest.raises(UsageError, match="A mask for images"):
        psnr(a, b, data_range=2.0, mask=torch.ones(3, 3, 32, 41))
    with pytest.raises(UsageError, match="11 x 11 window"):
        ssim(a[..., :10], b[..., :10], data_range=2.0)
    with pytest.raises(NumericalTrouble):
        psnr(a, b * float("nan"), data_range=2.0)
