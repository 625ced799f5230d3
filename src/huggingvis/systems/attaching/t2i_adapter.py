"""T2I-Adapters on a system: features of a picture, made once and added to the U-Net's way down."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from huggingvis.adapters.t2i_adapter import PictureFeatures
from huggingvis.checkpoints import t2i_adapter_files
from huggingvis.core.request import AdapterUse
from huggingvis.nets.t2i_adapter import T2IAdapter
from huggingvis.systems.attachments import Bench, Removable


def opened(path: Path, bench: Bench) -> T2IAdapter:
    """The net in a folder or in one file."""
    read = t2i_adapter_files.from_diffusers if path.is_dir() else t2i_adapter_files.load
    return read(path, dtype=bench.dtype).to(bench.device)


def attach(found: T2IAdapter, use: AdapterUse, bench: Bench) -> tuple[Removable, Mapping[str, Tensor]]:
    """Its features at every step of its window. Raises `UsageError` where it was made for another base."""
    return bench.put_on(PictureFeatures(found, use.weight, bench.name, bench.window), use)
