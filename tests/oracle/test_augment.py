"""Augmentation of pictures: exact moves, warps and colours, and how often they come."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from huggingvis.objectives.augment import Augment, Draws, Strengths, blit, recolour, warp


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("channels", [1, 3])
def test_no_probability_no_change(channels: int) -> None:
    x = normal(3, channels, 16, 16)
    augment = Augment().double()
    assert torch.allclose(augment(x, torch.tensor(0.0), rng()), x, atol=1e-6)  # the filter is kept in float32
    y = augment(x, torch.tensor(1.0), rng())
    assert y.shape == x.shape and not torch.allclose(y, x, atol=0.1)
    assert torch.equal(y, augment(x, torch.tensor(1.0), rng()))
    assert float(y.std()) < 4 * float(x.std())


def motion(rows: list[list[float]]) -> Tensor:
    return torch.tensor([[*rows, [0.0, 0.0, 1.0]]], dtype=torch.float64)


def test_blitting_is_exact() -> None:
    x = normal(1, 2, 8, 8)
    assert torch.equal(blit(x, motion([[-1, 0, 0], [0, 1, 0]])), x.flip(3))
    assert torch.equal(blit(x, motion([[0, -1, 0], [1, 0, 0]])), torch.rot90(x, 1, (2, 3)))
    moved = blit(x, motion([[1, 0, 2], [0, 1, 0]]))  # looks two pixels to the right
    assert torch.equal(moved[..., :6], x[..., 2:]) and torch.equal(moved[..., 6:], x[..., 6:].flip(3))


def bump(x: Tensor, y: Tensor) -> Tensor:
    """A smooth picture known everywhere: a Gaussian around (3, -2), two pixels wide."""
    return torch.exp(-((x - 3) ** 2 + (y + 2) ** 2) / 8)


@pytest.mark.parametrize(
    "rows",
    [
        [[1, 0, 1.5], [0, 1, -0.5]],
        [[0, -1, 0], [1, 0, 0]],
        [[0.8, -0.6, 1], [0.6, 0.8, 0]],
        [[0.5, 0, 0], [0, 0.5, 0]],
        [[0.7, 0, 0], [0, 1.4, 0]],
    ],
    ids=["shift", "right angle", "rotation", "scale", "aspect"],
)
def test_warping_looks_where_it_says(rows: list[list[float]]) -> None:
    f, line = Augment().taps.double(), torch.arange(32, dtype=torch.float64) - 15.5
    y, x = torch.meshgrid(line, line, indexing="ij")
    picture = bump(x, y)[None, None]
    still = warp(picture, motion([[1, 0, 0], [0, 1, 0]]), f)
    assert torch.allclose(still, picture, rtol=0, atol=1e-6)
    (a, b, c), (d, e, g) = rows
    want = bump(a * x + b * y + c, d * x + e * y + g)
    inside = (slice(8, 24), slice(8, 24))
    assert torch.allclose(warp(picture, motion(rows), f)[0, 0][inside], want[inside], rtol=0, atol=0.03)


def test_colours_turn_about_grey() -> None:
    augment = Augment(Strengths(brightness_std=0.0, contrast_std=0.0)).double()
    tint = augment.tint(Draws(500, rng(), torch.float64), torch.tensor(1.0), 3)
    grey = torch.full((500, 3, 1, 1), 0.5, dtype=torch.float64)
    assert torch.allclose(recolour(grey, tint).abs(), grey, atol=1e-12)  # its sign may flip, no colour appears
    light = Augment(Strengths(brightness_std=0.3, contrast_std=0.0)).double()
    tint = light.tint(Draws(4000, rng(), torch.float64), torch.tensor(1.0), 1)
    moved = recolour(torch.zeros(4000, 1, 1, 1, dtype=torch.float64), tint)
    assert float(moved.std()) == pytest.approx(0.3, rel=0.05)


def test_transformations_come_with_their_probability() -> None:
    augment = Augment().double()
    jumps = augment.jump(Draws(6000, rng(), torch.float64), torch.tensor(0.3), 16)
    assert float(
        (jumps[:, 0, 0] * jumps[:, 1, 1] - jumps[:, 0, 1] * jumps[:, 1, 0] < 0).double().mean()
    ) == pytest.approx(0.15, abs=0.02)
    moved = (jumps[:, :2, 2] != 0).any(1).double().mean()
    assert float(moved) == pytest.approx(0.3 * (1 - 1 / 16), abs=0.03)
    bends = augment.bend(Draws(6000, rng(), torch.float64), torch.tensor(0.3), 16)
    sheared = (bends[:, 0, 1].abs() > 1e-9).double().mean()
    assert float(sheared) == pytest.approx(0.3, abs=0.03)


def test_augmentation_can_be_differentiated_twice() -> None:
    augment = Augment().double()
    x = normal(1, 1, 8, 8).requires_grad_(True)
    assert torch.autograd.gradgradcheck(
        lambda x: augment(x, torch.tensor(1.0), rng(1)).pow(3).sum(), (x,), fast_mode=True
    )
