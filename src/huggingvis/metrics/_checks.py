"""What every comparison of two image tensors requires."""

from __future__ import annotations

from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.shapes import check_finite


def check_images(a: Tensor, b: Tensor, data_range: float, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """`a`, `b` [B, C, H, W] in float64 and `mask` as bool [B, 1, H, W]; float64 since PSNR above 70 dB needs it.

    Raises `UsageError` for unequal shapes, a range that is not positive or a mask of another size;
    `NumericalTrouble` for NaN or infinity.
    """
    if a.ndim != 4 or a.shape != b.shape or 0 in a.shape:
        raise UsageError(
            f"Two batches of images [B, C, H, W] of one shape can be compared; found {list(a.shape)} and "
            f"{list(b.shape)}. Resize or crop one of them first."
        )
    if not data_range > 0:
        raise UsageError(
            f"The data range is the largest minus the smallest possible value, 2 for [-1, 1] and 255 for bytes; "
            f"found {data_range}."
        )
    if mask is not None:
        if mask.ndim != 4 or mask.shape[1] != 1 or mask.shape[2:] != a.shape[2:] or mask.shape[0] not in (1, len(a)):
            raise UsageError(
                f"A mask for images {list(a.shape)} is [{len(a)}, 1, {a.shape[2]}, {a.shape[3]}] or the same with "
                f"batch 1; found {list(mask.shape)}."
            )
        mask = mask.detach().bool().cpu().expand(len(a), 1, *a.shape[2:])
    x, y = (check_finite(i.detach().cpu().double(), "The image") for i in (a, b))
    return x, y, mask


def masked_mean(values: Tensor, mask: Tensor | None, what: str) -> Tensor:
    """Mean [B] of `values` [B, C, H, W] where `mask` [B, 1, H, W] is true; `UsageError` where nothing of `what` is."""
    if mask is None:
        return values.mean((1, 2, 3))
    counts = mask.sum((1, 2, 3))  # [B]
    if (counts == 0).any():
        empty = (counts == 0).nonzero().flatten().tolist()
        raise UsageError(f"The mask leaves no {what} to compare in image {empty[0]} ({len(empty)} such images in all).")
    return (values.mean(1, keepdim=True) * mask).sum((1, 2, 3)) / counts
