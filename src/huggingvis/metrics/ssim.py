r"""Structural similarity of two images: luminance, contrast and structure compared in a sliding Gaussian window.

Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image Quality Assessment: From Error Visibility to Structural
Similarity", IEEE Transactions on Image Processing 13 (2004), equations 13 to 16:

    SSIM(x, y) = (2 mu_x mu_y + C1)(2 s_xy + C2) / ((mu_x^2 + mu_y^2 + C1)(s_x^2 + s_y^2 + C2))

with local moments under an 11 x 11 Gaussian window of standard deviation 1.5, C1 = (0.01 L)^2, C2 = (0.03 L)^2 and L
the data range. Only windows that lie wholly inside the image count; channels are averaged. Book: chapter 9, "Judges".
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d

from huggingvis.core.errors import UsageError
from huggingvis.metrics._checks import check_images, masked_mean

WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03


def ssim(a: Tensor, b: Tensor, *, data_range: float, mask: Tensor | None = None) -> Tensor:
    """Mean SSIM of each image, float64 [B] in [-1, 1]; 1 for equal images.

    `a`, `b` [B, C, H, W] with H, W >= 11; `data_range` 2.0 for images in [-1, 1]. With `mask` [B, 1, H, W] (or
    batch 1) only windows that lie wholly where it is true count, so that nothing outside leaks in. Raises
    `UsageError` for shapes that do not fit or a mask without such a window, `NumericalTrouble` for NaN.
    """
    x, y, where = check_images(a, b, data_range, mask)
    if min(x.shape[2:]) < WINDOW:
        raise UsageError(f"SSIM looks through an {WINDOW} x {WINDOW} window; found images of {list(x.shape[2:])}.")
    if where is not None:
        where = max_pool2d(1.0 - where.double(), WINDOW, stride=1) == 0  # [B, 1, H - 10, W - 10]
    return masked_mean(_ssim_map(x, y, data_range), where, f"whole {WINDOW} x {WINDOW} window")


def _ssim_map(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    """Equation 13 in every window, [B, C, H - 10, W - 10]."""
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    mu_x, mu_y = _blur(x), _blur(y)
    var_x = _blur(x * x) - mu_x * mu_x
    var_y = _blur(y * y) - mu_y * mu_y
    cov = _blur(x * y) - mu_x * mu_y
    return (2 * mu_x * mu_y + c1) * (2 * cov + c2) / ((mu_x**2 + mu_y**2 + c1) * (var_x + var_y + c2))


def _blur(x: Tensor) -> Tensor:
    """Gaussian-weighted means of all whole windows of `x` [B, C, H, W], [B, C, H - 10, W - 10]."""
    offset = torch.arange(WINDOW, dtype=x.dtype) - WINDOW // 2
    weight = torch.exp(-0.5 * (offset / SIGMA) ** 2)
    weight = weight / weight.sum()  # [11]
    channels = x.shape[1]
    rows = weight.reshape(1, 1, 1, WINDOW).expand(channels, -1, -1, -1)  # [C, 1, 1, 11]
    return conv2d(conv2d(x, rows, groups=channels), rows.transpose(2, 3), groups=channels)
