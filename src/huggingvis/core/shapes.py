"""Small helpers about tensor shapes and kinds."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from huggingvis.core.errors import NumericalTrouble

Net = TypeVar("Net", bound=nn.Module)
Coefficient = float | Tensor
"""What multiplies a batch: a plain number, or a tensor that broadcasts over it."""


def expand(a: Tensor, x: Tensor) -> Tensor:
    """Per-sample numbers `a` ([] or [B]) as a tensor that broadcasts over `x` [B, ...], in the dtype of `x`.

    A 0-dim `a` stays where it is: PyTorch mixes 0-dim CPU tensors with tensors of any device without a copy. Numbers
    per component, [B or 1, ...], broadcast as they are.
    """
    if a.ndim == 0:
        return a.to(x.dtype)
    a = a.to(device=x.device, dtype=x.dtype)
    return a.reshape(-1, *[1] * (x.ndim - 1)) if a.ndim == 1 else a


def mixed(a: Coefficient, x: Tensor, b: Coefficient, y: Tensor) -> Tensor:
    """a x + b y, a new tensor of the wider dtype; with plain numbers in two passes over memory instead of three."""
    if isinstance(a, float) and isinstance(b, float):
        wide = x if x.dtype == y.dtype else x.to(torch.promote_types(x.dtype, y.dtype))
        return plus(wide * a, b, y)
    return a * x + b * y


def plus(out: Tensor, b: float, y: Tensor) -> Tensor:
    """out + b y in one pass, written over `out`, a tensor that nobody else holds."""
    return out.add_(y, alpha=b) if out.dtype == y.dtype else out + b * y


def per_sample(t: Tensor, x: Tensor) -> Tensor:
    """Numbers `t` ([] or [B]) as [B] on the device of `x`, in their own dtype: float32 for devices without float64."""
    return t.to(x.device).expand(x.shape[0]) if t.ndim == 0 else t.to(x.device)


def widest(device: torch.device) -> torch.dtype:
    """float64, or float32 on a device that has no float64 (MPS)."""
    return torch.float32 if device.type == "mps" else torch.float64


def double(x: Tensor) -> Tensor:
    """`x` in float64; on the CPU where its device has none."""
    return (x.cpu() if widest(x.device) != torch.float64 else x).double()


def channels_last(net: Net) -> Net:
    """`net` itself, its convolutions' weights laid out in memory with the channels last, as fast kernels want them.

    Not for training on a CPU: there PyTorch's group norm takes five to thirty times as long with channels last
    (bfloat16 both ways, float32 backward), more than convolutions gain.
    """
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stub


def check_finite(x: Tensor, what: str) -> Tensor:
    """`x` itself, or `NumericalTrouble` that names `what`."""
    if not torch.isfinite(x).all():
        bad = int((~torch.isfinite(x)).sum())
        raise NumericalTrouble(
            f"{what} should be finite, but {bad} of {x.numel()} numbers are NaN or infinite. Damaged weights or too "
            "low a precision are the usual causes: check the file, or run in float32."
        )
    return x
