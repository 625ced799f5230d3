"""ControlNets on a system: a net beside its U-Net that reads a picture of edges, depth, a pose."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from huggingvis.adapters.control import Control
from huggingvis.checkpoints import diffusers_controlnet
from huggingvis.core.request import AdapterUse
from huggingvis.nets.controlnet import ControlNet
from huggingvis.systems.attachments import Bench, Removable


def opened(path: Path, bench: Bench) -> ControlNet:
    """The net in a folder or in one file. Raises `UsageError` where it was made for another base."""
    base = bench.unet.config
    if path.is_dir():
        net = diffusers_controlnet.from_diffusers(path, dtype=bench.dtype, base=base)
    else:
        net = diffusers_controlnet.load(path, base, dtype=bench.dtype)
    return net.to(bench.device)


def attach(found: ControlNet, use: AdapterUse, bench: Bench) -> tuple[Removable, Mapping[str, Tensor]]:
    """Its residuals at every step of its window."""
    return bench.put_on(Control(found, use.weight, bench.name, bench.window), use)
