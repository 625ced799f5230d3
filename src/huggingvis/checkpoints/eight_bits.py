"""Weights in eight bits: each row of a matrix as integers and one scale, a quarter of float32.

w ~ s q with q in -127..127 and s = max |w|/127 over an output channel: row-wise absmax quantisation (Dettmers et al.
2022, arXiv 2208.07339, Sec. 2.1), here of files only; networks compute with s q in the precision asked for. What has
fewer than two dimensions, norms and biases, stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

SCALE = ".scale"
LEVELS = 127


def packed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each matrix or convolution `name` as int8, beside its scales `name.scale` [C_out] in float32."""
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.ndim < 2 or not tensor.is_floating_point():
            out[name] = tensor
            continue
        rows = tensor.flatten(1).float()
        scale = rows.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny) / LEVELS  # [C_out]
        out[name] = (rows / scale[:, None]).round().to(torch.int8).view_as(tensor)
        out[name + SCALE] = scale
    return out


def unpacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `packed` packed, in float32; tensors without a scale as they are."""
    out = {name: tensor for name, tensor in tensors.items() if not _is_scale(name, tensors)}
    for name in out:
        if name + SCALE in tensors:
            scale = tensors[name + SCALE].float()
            out[name] = out[name].float() * scale.view(-1, *[1] * (out[name].ndim - 1))
    return out


def _is_scale(name: str, tensors: Mapping[str, Tensor]) -> bool:
    packed_as = tensors.get(name.removesuffix(SCALE))
    return name.endswith(SCALE) and packed_as is not None and packed_as.dtype == torch.int8
