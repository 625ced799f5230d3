"""Resampling and modulated convolutions of style-based generators against their definitions spelt out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from huggingvis.nets.modulated_conv import modulated_conv2d, modulated_upconv2d
from huggingvis.nets.resampling import blur2d, downsample2d, taps, upfirdn2d, upsample2d


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# ---- resampling ------------------------------------------------------------------------------------------------------


def spelt_out(x: Tensor, taps: Tensor, up: int, down: int, padding: tuple[int, int], gain: float) -> Tensor:
    """Zeros inserted, padded or cropped, convolved tap by tap, decimated."""
    b, c, h, w = x.shape
    full = x.new_zeros(b, c, h * up, w * up)
    full[:, :, ::up, ::up] = x
    full = F.pad(full, (*padding, *padding))
    kernel, k = torch.outer(taps, taps), len(taps)
    height, width = full.shape[2] - k + 1, full.shape[3] - k + 1
    out = x.new_zeros(b, c, height, width)
    for i in range(k):
        for j in range(k):
            out += kernel[k - 1 - i, k - 1 - j] * full[:, :, i : i + height, j : j + width]
    return gain * out[:, :, ::down, ::down]


@pytest.mark.parametrize("up", [1, 2, 3])
@pytest.mark.parametrize("down", [1, 2, 3])
@pytest.mark.parametrize("padding", [(0, 0), (2, 1), (-1, 3), (4, -2)])
def test_upfirdn_is_zeros_then_filter_then_decimation(up: int, down: int, padding: tuple[int, int]) -> None:
    x, f = normal(2, 3, 8, 7), normal(4, seed=1)
    ours = upfirdn2d(x, f, up=up, down=down, padding=padding, gain=1.7)
    assert torch.allclose(ours, spelt_out(x, f, up, down, padding, 1.7), atol=1e-12)


@pytest.mark.parametrize("weights", [(1.0, 3.0, 3.0, 1.0), (1.0, 2.0, 1.0)])
def test_resampling_keeps_a_flat_picture(weights: tuple[float, ...]) -> None:
    f, flat = taps(weights).double(), torch.full((1, 1, 8, 8), 0.7, dtype=torch.float64)
    for change, side in ((upsample2d, 16), (downsample2d, 4), (blur2d, 8)):
        out = change(flat, f)
        assert out.shape == (1, 1, side, side)
        assert torch.allclose(out[:, :, 2:-2, 2:-2] if side > 4 else out[:, :, 1:-1, 1:-1], flat[0, 0, 0, 0])


def test_resampling_can_be_differentiated_twice() -> None:
    x = normal(1, 2, 4, 4).requires_grad_(True)
    assert torch.autograd.gradgradcheck(lambda x: upsample2d(x, taps().double()).square(), (x,), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: downsample2d(x, taps().double()).square(), (x,), fast_mode=True)


# ---- modulated convolution -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_modulated_convolution_is_a_kernel_of_its_own_for_each_picture(dtype: torch.dtype, close: float) -> None:
    x, weight, styles = (
        normal(3, 4, 6, 5).to(dtype),
        normal(7, 4, 3, 3, seed=1).to(dtype),
        normal(3, 4, seed=2).to(dtype),
    )
    for i in range(3):
        kernel = weight * styles[i][None, :, None, None]  # Eq. 1
        plain = F.conv2d(x[i : i + 1], kernel, padding=1)
        assert torch.allclose(modulated_conv2d(x, weight, styles, demodulate=False)[i], plain[0], atol=close)
        kernel = kernel / (kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()  # Eq. 3
        assert torch.allclose(modulated_conv2d(x, weight, styles)[i], F.conv2d(x[i], kernel, padding=1), atol=close)
        zeros = F.pad(spelt_out(x[i : i + 1], x.new_ones(1), 2, 1, (0, 0), 1.0), (1, 0, 1, 0))  # 2 H + 1
        blown = F.conv2d(F.pad(zeros, (1, 1, 1, 1)), kernel.flip(2, 3))
        up = spelt_out(blown, taps().to(dtype), 1, 1, (1, 1), 4.0)
        assert torch.allclose(modulated_upconv2d(x, weight, styles, taps().to(dtype))[i], up[0], atol=close)


def test_demodulated_output_has_unit_deviation() -> None:
    """For inputs that are white noise of unit variance, whatever the styles (Sec. 2.2)."""
    x, weight, styles = normal(4, 16, 66, 66), normal(8, 16, 3, 3, seed=1), 5 * normal(4, 16, seed=2)
    y = modulated_conv2d(x, weight, styles)[:, :, 1:-1, 1:-1]
    assert torch.allclose(y.std((2, 3)), y.new_ones(4, 8), atol=0.05)
    assert float(modulated_conv2d(x, weight, styles, demodulate=False).std()) > 20
