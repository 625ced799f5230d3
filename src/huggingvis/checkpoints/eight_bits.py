"""Weights in eight bits: each row of a matrix as integers and one scale, a quarter of float32.

w ~ s q with q in -127..127 and s = max |w|/127 over an output channel: absmax quantisation, a vector at a time
(Dettmers et al. 2022, arXiv 2208.07339), here of files only; networks compute with s q in the precision asked for. What
has fewer than two dimensions, norms and biases, stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from huggingvis.core.errors import FileProblem

SCALE = ".scale"
LEVELS = 127


def packed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each matrix or convolution `name` as int8, beside its scales `name.scale` [C_out] in float32.

    Raises `ValueError` for numbers that are not finite, and where a name is another's scale already.
    """
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.ndim < 2 or not tensor.is_floating_point():
            out[name] = tensor
            continue
        if name + SCALE in tensors or not tensor.isfinite().all():
            raise ValueError(f"{name} is not finite, or the name of its scale is taken: it cannot be packed")
        rows = tensor.flatten(1).float()
        scale = rows.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny) / LEVELS  # [C_out]
        out[name] = (rows / scale[:, None]).round().to(torch.int8).view_as(tensor)
        out[name + SCALE] = scale
    return out


def unpacked(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """What `packed` packed, in float32; tensors that are not int8 as they are.

    Raises `FileProblem`, naming `path`, where an int8 tensor has not one scale for each of its rows.
    """
    out = dict(tensors)
    for name, tensor in tensors.items():
        if tensor.dtype != torch.int8:
            continue
        scale = out.pop(name + SCALE, None)
        if scale is None or not scale.is_floating_point() or scale.shape != tensor.shape[:1]:
            found = "none" if scale is None else f"{list(scale.shape)} of {scale.dtype}"
            raise FileProblem(
                f"{path} holds {name!r} in eight bits, which needs a scale for each of its {tensor.shape[0]} rows; "
                f"found {found}. Fetch or export the model again."
            )
        out[name] = tensor.float() * scale.float().view(-1, *[1] * (tensor.ndim - 1))
    return out
