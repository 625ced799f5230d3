"""In which precision a model of files runs on a device.

A CPU multiplies bfloat16 two to four times as fast as float32 where it has instructions for it, and float16 hardly at
all. On CUDA half precision is usual: the files' own, else bfloat16 where the device has it. An autoencoder is never run
in float16, in which that of SDXL overflows (its activations reach 1e5, the type ends at 65504). Book: chapter 10,
"Speed".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch

from huggingvis.checkpoints.inspect import inspect
from huggingvis.core.errors import HvisError, UsageError, unknown
from huggingvis.core.machine import multiplies_bfloat16

AUTO = "auto"
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
NAMES = (AUTO, *PRECISIONS)

_HALF = {"F16": torch.float16, "BF16": torch.bfloat16}
_DENOISERS = ("unet", "transformer")


@dataclass(frozen=True)
class Precision:
    """Of the nets that denoise and read prompts, and of the autoencoder."""

    net: torch.dtype
    codec: torch.dtype


def precision(name: str, device: torch.device, path: Path) -> Precision:
    """What `name`, one of `NAMES`, means for the model at `path` on `device`. Raises `UsageError`."""
    if name not in NAMES:
        raise unknown("precision", name, NAMES)
    if name == "float16" and device.type == "cpu":
        raise UsageError(
            "float16 is slow on a CPU and overflows easily. Use bfloat16, which has the range of float32, or leave "
            "the precision to `auto`."
        )
    net = usual(device, stored(path)) if name == AUTO else PRECISIONS[name]
    return Precision(net, net if net is not torch.float16 else _wide(device))


def usual(device: torch.device, own: torch.dtype | None = None) -> torch.dtype:
    """The precision in which nets run best on `device`; `own`: the half precision of their files, where it is one."""
    if device.type == "cuda":
        half = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
        return own if own is torch.float16 else half
    return torch.bfloat16 if device.type == "cpu" and multiplies_bfloat16() else torch.float32


def stored(path: Path) -> torch.dtype | None:
    """The half precision that most numbers of a model's denoiser are stored in; None for another or an unknown one."""
    for file in _weights(path):
        try:
            most = next(iter(inspect(file).dtypes), "")
        except (HvisError, OSError):  # whoever loads it says what is wrong
            return None
        return _HALF.get(most)
    return None


def _wide(device: torch.device) -> torch.dtype:
    """The faster of the types here that have the range of float32."""
    bfloat = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if bfloat else torch.float32


def _weights(path: Path) -> Iterator[Path]:
    """Files with weights of the denoiser: the one, or those of a folder of diffusers, whole or the part alone."""
    if path.is_file():
        yield path
        return
    parts = [path / name for name in _DENOISERS if (path / name).is_dir()] or [path]
    yield from chain.from_iterable(sorted(part.glob(f"*.{kind}")) for part in parts for kind in ("safetensors", "bin"))
