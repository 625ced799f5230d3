"""Features of images, gathered once and compared by `frechet`, `frechet_infinity` and `kid`.

A feature extractor is any callable; the weights behind it (a judge, a classifier, an identity) stay with the caller.
Book: chapter 9, "Judges".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.shapes import check_finite

Features = Callable[[Tensor], Tensor]
"""Images [B, C, H, W] in [-1, 1] -> features [B, D]."""


def pixels(x: Tensor) -> Tensor:
    """The plainest features: the numbers of a picture, [B, C H W]."""
    return x.flatten(1)


@torch.no_grad()
def gather(extract: Features, batches: Iterable[Tensor]) -> Tensor:
    """Features [N, D], float64 on the CPU, of all images in `batches` (each [B, C, H, W] in [-1, 1]).

    Raises `UsageError` for no batches or features that are not [B, D], `NumericalTrouble` for NaN or infinity.
    """
    parts = [as_features(extract(images)) for images in batches]
    if not parts:
        raise UsageError("There are no images to take features of. Give at least one batch.")
    return torch.cat(parts)


def as_features(x: Tensor) -> Tensor:
    """`x` [N, D] as float64 on the CPU: covariances of float32 features lose half their digits, and MPS has no float64.

    Raises `UsageError` for another shape, `NumericalTrouble` for NaN or infinity.
    """
    if x.ndim != 2 or 0 in x.shape:
        raise UsageError(f"Features are [N, D], one row per image; found {list(x.shape)}. Flatten or pool them first.")
    return check_finite(x.detach().to("cpu", torch.float64), "The features")


def check_comparable(a: Tensor, b: Tensor) -> None:
    """Raises `UsageError` where `a` [N, D] and `b` [M, D] differ in D or either has fewer than two rows."""
    if a.shape[1] != b.shape[1]:
        raise UsageError(
            f"Both sets of features must come from the same extractor, but they have {a.shape[1]} and {b.shape[1]} "
            "dimensions."
        )
    if min(len(a), len(b)) < 2:
        raise UsageError(f"Two sets of at least 2 images can be compared; found {len(a)} and {len(b)}.")
