"""Measures that papers of adversarial models use, against closed forms: patches, path lengths, linear probes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from huggingvis.core.errors import NumericalTrouble, UsageError
from huggingvis.core.noise import SeedNoise
from huggingvis.metrics.features import Features
from huggingvis.metrics.linear_probe import linear_probe, ridge_classifiers
from huggingvis.metrics.path_length import Steps, great_circle, line, path_length
from huggingvis.metrics.sliced_wasserstein import (
    Patches,
    enlarged,
    laplacian_pyramid,
    mean_patch_distance,
    patch_distances,
    sliced_wasserstein,
)
from huggingvis.nets.dcgan import DCGANCritic
from huggingvis.nets.stylegan import StyleGANSizes, fresh_generator
from huggingvis.nets.stylegan2_synthesis import StyleGAN2Synthesis


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- sliced Wasserstein distance ------------------------------------------------------------------------------------


def test_a_shifted_set_is_as_far_as_its_shift() -> None:
    """|v . theta| along each direction, on average |v| Gamma(D/2) / (sqrt pi Gamma(D/2 + 1/2))."""
    for dims in (1, 2, 5):
        x, v = drawn(200, dims), 0.3 * drawn(dims, seed=1)
        share = math.gamma(dims / 2) / (math.sqrt(math.pi) * math.gamma(dims / 2 + 0.5))
        found = sliced_wasserstein(x, x[torch.randperm(200)] + v, directions=4000)
        assert found == pytest.approx(float(v.norm()) * share, rel=1e-12 if dims == 1 else 0.03)
    assert sliced_wasserstein(x, x.flip(0)) == pytest.approx(0, abs=1e-12)


def test_it_is_the_distance_of_sorted_values() -> None:
    from scipy import stats

    a, b = drawn(50, 1), 2 * drawn(50, 1, seed=1) + 0.5
    assert sliced_wasserstein(a, b, directions=3) == pytest.approx(stats.wasserstein_distance(a[:, 0], b[:, 0]))


def test_a_pyramid_adds_up_to_its_picture() -> None:
    x = drawn(2, 3, 64, 64)
    levels = laplacian_pyramid(x)
    assert [level.shape[2] for level in levels] == [64, 32, 16]
    whole = levels[-1]
    for level in levels[-2::-1]:
        whole = level + enlarged(whole)
    assert torch.allclose(whole, x, atol=1e-12)
    flat = laplacian_pyramid(torch.full((1, 1, 32, 32), 0.7, dtype=torch.float64))
    assert float(flat[0][..., 2:-2, 2:-2].abs().max()) < 1e-12 and float((flat[1] - 0.7).abs().max()) < 1e-12
    assert [level.shape[2] for level in laplacian_pyramid(drawn(1, 1, 28, 28))] == [28]


def test_levels_tell_texture_from_structure() -> None:
    """Noise of single pixels moves the finest level; how bright a patch is on average is no part of its description."""
    smooth = F.interpolate(drawn(64, 1, 8, 8).float(), size=32, mode="bicubic")
    other = F.interpolate(drawn(64, 1, 8, 8, seed=2).float(), size=32, mode="bicubic")
    rough = smooth + 0.5 * drawn(64, 1, 32, 32, seed=1).float()
    patches = Patches(count=16, directions=64)
    same, textured = patch_distances(smooth, other, patches), patch_distances(smooth, rough, patches)
    assert list(same) == [32, 16] and textured[32] > 2 * max(same[32], textured[16])
    assert mean_patch_distance(same) == pytest.approx((same[32] + same[16]) / 2)
    brighter = patch_distances(smooth, 3 * smooth + 1, patches)
    assert max(brighter.values()) < 1e-4
    with pytest.raises(UsageError, match="as many pictures"):
        patch_distances(smooth, other[:5])
    with pytest.raises(NumericalTrouble):
        patch_distances(smooth * math.nan, other)


# ---- perceptual path length -----------------------------------------------------------------------------------------


def test_a_linear_generators_paths_are_as_long_as_their_images() -> None:
    """G(w) = A w: |A (w2 - w1)|^2 on every way, anywhere on it."""
    a, b, matrix = drawn(40, 6), drawn(40, 6, seed=1), drawn(12, 6, seed=2)
    truth = ((b - a) @ matrix.T).square().sum(1)
    for at_ends in (True, False):
        found = path_length(
            lambda w: (w @ matrix.T).unflatten(1, (3, 2, 2)),
            [(a[:30], b[:30]), (a[30:], b[30:])],
            lambda x: x.flatten(1),
            steps=Steps(at_ends=at_ends, trim=0.0),
        )
        assert found.n == 40 and found.mean == pytest.approx(float(truth.mean()), rel=1e-6)
        assert found.error == pytest.approx(float(truth.std(correction=0)) / math.sqrt(40), rel=1e-6)
    kept = truth.sort().values[4:-4]
    trimmed = path_length(lambda w: w @ matrix.T, [(a, b)], lambda x: x, steps=Steps(trim=0.1))
    assert trimmed.n == 32 and trimmed.mean == pytest.approx(float(kept.mean()), rel=1e-6)


def test_round_the_sphere_it_is_the_angle() -> None:
    a, b = (F.normalize(drawn(30, 5, seed=seed), dim=1) for seed in (0, 1))
    angle = torch.arccos((a * b).sum(1))
    found = path_length(lambda z: z, [(a, b)], lambda x: x, way=great_circle, steps=Steps(trim=0.0))
    assert found.mean == pytest.approx(float(angle.square().mean()), rel=1e-6)
    t = torch.full((30,), 0.25, dtype=torch.float64)
    assert torch.allclose(great_circle(a, 2 * b, t).norm(dim=1), torch.full_like(t, 1.25))
    assert torch.allclose(great_circle(a, 3 * a, t), 1.5 * a)
    assert torch.allclose(great_circle(a, b, 0 * t), a) and torch.allclose(great_circle(a, b, 0 * t + 1), b)
    with pytest.raises(UsageError, match="no way to measure"):
        path_length(lambda z: z, [], lambda x: x)


def test_styles_of_a_generator_have_a_length() -> None:
    """Twice the features, four times the length; a picture that never changes has none."""
    torch.manual_seed(0)
    sizes = StyleGANSizes((8, 8), channels=1, z_dim=8, w_dim=8, mapping_layers=2)
    net = fresh_generator(sizes, StyleGAN2Synthesis(sizes)).double()
    a, b = (net.latents(6, {}, noise=SeedNoise(range(i, i + 6))) for i in (0, 6))

    def scaled(s: float) -> Features:
        return lambda x: s * x.flatten(1)

    once, twice, never = (path_length(net.decode, [(a, b)], scaled(s), way=line) for s in (1.0, 2.0, 0.0))
    assert once.mean > 0 and twice.mean == pytest.approx(4 * once.mean) and never.mean == 0


# ---- linear probe ---------------------------------------------------------------------------------------------------


def test_separable_classes_are_told_and_noise_is_not() -> None:
    y = torch.arange(300) % 3
    x = drawn(300, 20) + 8 * F.one_hot(y, 20)
    told = linear_probe((x[:200], y[:200]), (x[200:], y[200:] + 0))
    assert told.accuracy == 1.0 and told.error == 0.0 and told.n == 100
    blind = linear_probe((drawn(200, 20, seed=3), y[:200]), (drawn(100, 20, seed=4), y[200:]))
    assert abs(blind.accuracy - 1 / 3) < 4 * blind.error
    corners = torch.tensor([[0.0, 0], [1, 1], [0, 1], [1, 0]]).repeat(50, 1)
    assert (
        linear_probe((corners, corners[:, 0] != corners[:, 1]), (corners, corners[:, 0] != corners[:, 1])).accuracy
        < 0.8
    )
    with pytest.raises(UsageError, match="two classes"):
        linear_probe((x, torch.zeros(300)), (x, y))
    with pytest.raises(UsageError, match="one label"):
        linear_probe((x, y[:5]), (x, y))


@pytest.mark.parametrize("rows", [15, 120])
def test_it_is_the_ridge_classifier(rows: int) -> None:
    from sklearn import linear_model

    x, y = drawn(rows, 40), torch.randint(4, (rows,), generator=torch.Generator().manual_seed(0)) * 10
    scaled = (x - x.mean(0)) / x.std(0, correction=0)
    reference = linear_model.RidgeClassifier(alpha=0.3 * rows).fit(scaled.numpy(), y.numpy())
    other = drawn(200, 40, seed=5)
    want = reference.predict(((other - x.mean(0)) / x.std(0, correction=0)).numpy())
    assert ridge_classifiers(x, y)(0.3)(other).tolist() == want.tolist()


def test_digits_are_told_as_by_a_support_vector_machine() -> None:
    from sklearn import datasets, svm

    x, y = (torch.from_numpy(part) for part in datasets.load_digits(return_X_y=True))
    told = linear_probe((x[:1000], y[:1000]), (x[1000:], y[1000:]))
    machine = svm.LinearSVC(C=0.01).fit(x[:1000].numpy() / 16, y[:1000].numpy())
    assert told.accuracy == pytest.approx(machine.score(x[1000:].numpy() / 16, y[1000:].numpy()), abs=0.03)


def test_a_critics_features_are_its_maps_in_a_grid_of_four() -> None:
    """Sec. 5.1 of DCGAN: 28,672 numbers of 32 pixels there, (w + 2 w + 4 w) x 16 here."""
    torch.manual_seed(0)
    critic = DCGANCritic((3, 32, 32), width=4).eval()
    x = torch.randn(2, 3, 32, 32)
    found, maps = critic.features(x), critic.maps(x)
    assert found.shape == (2, 16 * (4 + 8 + 16))
    first = maps[0].unflatten(3, (4, 4)).unflatten(2, (4, 4)).amax((3, 5))  # [B, 4, 4, 4]
    assert torch.equal(found[:, :64], first.flatten(1)) and torch.equal(found[:, -256:], maps[-1].flatten(1))
