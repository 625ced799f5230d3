"""Our `T2IAdapter` and the community's files of it, both ways: diffusers' folders, and single files of two layouts.

diffusers' `T2IAdapter` comes in three types; ours has their differences as sizes. The authors' files
(github.com/TencentARC/T2I-Adapter) have the same tensors, in the two full types with all residual blocks in one row.
Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from huggingvis.checkpoints import diffusers_common as common
from huggingvis.checkpoints.assign import filled
from huggingvis.checkpoints.diffusers_common import Json, settings, unsupported
from huggingvis.checkpoints.formats import TensorFact
from huggingvis.checkpoints.inspect import inspect
from huggingvis.checkpoints.io import load as load_tensors
from huggingvis.checkpoints.io import save as save_tensors
from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.core.errors import FileProblem, UsageError, about
from huggingvis.nets.t2i_adapter import T2IAdapter, T2IAdapterConfig

CLASS = "T2IAdapter"
FULL, XL, LIGHT = "full_adapter", "full_adapter_xl", "light_adapter"

_ONLY: dict[str, tuple[Any, ...]] = {"_class_name": (CLASS,), "adapter_type": (FULL, XL, LIGHT)}
_DEFAULTS: dict[str, Any] = {
    "in_channels": 3, "channels": (320, 640, 1280, 1280), "num_res_blocks": 2, "downscale_factor": 8,
    "adapter_type": FULL,
}  # fmt: skip
_FOLDED = {64: (1, 8), 192: (3, 8), 256: (1, 16), 768: (3, 16)}
"""Channels after folding -> (channels of the picture, pixels on a side), of all published adapters."""
_PUBLISHED_BLOCKS = 2
"""Residual blocks of a level where a file does not tell: of the authors' full adapters."""


def config_from_diffusers(theirs: Json) -> T2IAdapterConfig:
    """Our sizes from their `config.json`. Raises `FileProblem` naming the first setting that we cannot express."""
    full = settings(theirs, _DEFAULTS, _ONLY)
    if not full["channels"] or not full["downscale_factor"]:
        raise unsupported("channels and downscale_factor", [full["channels"], full["downscale_factor"]], "more than 0")
    return _config(full["adapter_type"], full["in_channels"], full["channels"], full["num_res_blocks"],
                   full["downscale_factor"])  # fmt: skip


def _config(kind: str, in_channels: int, channels: tuple[int, ...], blocks: int, fold: int) -> T2IAdapterConfig:
    channels = (*channels, channels[-1]) if kind == LIGHT else channels  # its last level goes on with the same width
    halves = tuple(level == 2 if kind == XL else level > 0 for level in range(len(channels)))
    return T2IAdapterConfig(in_channels, channels, halves, blocks, fold, kind == LIGHT)


def config_to_diffusers(config: T2IAdapterConfig) -> dict[str, Any]:
    """A `config.json` for our sizes. Raises `UsageError` for what diffusers' class does not compute."""
    c = config
    for kind in (LIGHT,) if c.light else (FULL, XL):
        channels = c.channels[:-1] if c.light else c.channels
        if channels and _config(kind, c.in_channels, channels, c.blocks, c.fold) == c:
            return {
                "_class_name": CLASS, "in_channels": c.in_channels, "channels": list(channels),
                "num_res_blocks": c.blocks, "downscale_factor": c.fold, "adapter_type": kind,
            }  # fmt: skip
    raise UsageError(
        f"No T2I-Adapter of diffusers has levels of width {c.channels} that halve the map as {c.halves}. Save it in "
        "this library's own format instead."
    )


def keymap(config: T2IAdapterConfig) -> KeyMap:
    """Names in diffusers' layout."""
    level = "adapter.body.{i}"
    rules = _leaves(("conv_in", "adapter.conv_in"), ("levels.{i}.enter", f"{level}.in_conv"),
                    ("levels.{i}.leave", f"{level}.out_conv"))  # fmt: skip
    return KeyMap((*rules, *_residual("levels.{i}.blocks.{j}", f"{level}.resnets.{{j}}")))


def authors_keymap(config: T2IAdapterConfig) -> KeyMap:
    """Names in the authors' layout."""
    rules = _leaves(("conv_in", "conv_in"))
    if config.light:
        rules += _leaves(("levels.{i}.enter", "body.{i}.in_conv"), ("levels.{i}.leave", "body.{i}.out_conv"))
        return KeyMap((*rules, *_residual("levels.{i}.blocks.{j}", "body.{i}.body.{j}")))
    for level in range(len(config.channels)):
        row = level * config.blocks
        rules += _leaves((f"levels.{level}.enter", f"body.{row}.in_conv"))
        for block in range(config.blocks):
            rules += _residual(f"levels.{level}.blocks.{block}", f"body.{row + block}")
    return KeyMap(rules)


def _leaves(*pairs: tuple[str, str]) -> list[Rule]:
    return [Rule(f"{ours}.{{leaf:word}}", f"{theirs}.{{leaf:word}}") for ours, theirs in pairs]


def _residual(ours: str, theirs: str) -> list[Rule]:
    return _leaves((f"{ours}.conv1", f"{theirs}.block1"), (f"{ours}.conv2", f"{theirs}.block2"))


def from_diffusers(folder: Path | str, *, dtype: torch.dtype | None = None) -> T2IAdapter:
    """The net in a diffusers folder, in evaluation mode; `dtype` None keeps the file's. Raises `FileProblem`."""
    with about(folder):
        config = config_from_diffusers(common.read_config(folder))
        return _built(config, keymap(config).consume(common.read_weights(folder, dtype)))


def to_diffusers(net: T2IAdapter, folder: Path | str) -> Path:
    """Write `net` as a folder that diffusers loads; returns it. Raises `UsageError` if diffusers has none like ours."""
    theirs = config_to_diffusers(net.config)
    return common.write_folder(folder, theirs, keymap(net.config).to_theirs(net.state_dict()))


def load(path: Path | str, *, dtype: torch.dtype | None = None) -> T2IAdapter:
    """The net in a single file of either layout, sizes read from its tensors' shapes. Raises `FileProblem`."""
    config = sizes_of(path)
    names = keymap(config) if _prefix(inspect(path).tensors) else authors_keymap(config)
    return _built(config, names.consume(load_tensors(path, dtype=dtype)))


def sizes_of(path: Path | str) -> T2IAdapterConfig:
    """The sizes of the net in a single file, without its numbers. Raises `FileProblem`."""
    tensors = inspect(path).tensors
    prefix = _prefix(tensors)
    return _sizes({name.removeprefix(prefix): fact for name, fact in tensors.items()}, Path(path), bool(prefix))


def _prefix(tensors: Mapping[str, TensorFact]) -> str:
    return "adapter." if any(name.startswith("adapter.") for name in tensors) else ""


def save(net: T2IAdapter, path: Path | str) -> Path:
    """Write `net` as one file in the authors' layout; returns its path."""
    return save_tensors(path, authors_keymap(net.config).to_theirs(net.state_dict()), {"format": "pt"})


def _sizes(tensors: Mapping[str, TensorFact], path: Path, diffusers: bool) -> T2IAdapterConfig:
    light = "conv_in.weight" not in tensors
    first = tensors.get("body.0.in_conv.weight" if light else "conv_in.weight")
    if first is None or len(first.shape) != 4 or first.shape[1] not in _FOLDED:
        raise FileProblem(
            f"{path} is no T2I-Adapter whose sizes are known: expected conv_in.weight, or body.0.in_conv.weight of the "
            f"light type, with {', '.join(map(str, _FOLDED))} channels. `hvis inspect` says what it is."
        )
    in_channels, fold = _FOLDED[first.shape[1]]
    inside = "resnets" if diffusers else "body"
    rows = len({name.split(".")[1] for name in tensors if name.startswith("body.")})
    if light or diffusers:
        block = f"body.0.{inside}."
        blocks = len({name.removeprefix(block).split(".")[0] for name in tensors if name.startswith(block)})
        last = "out_conv" if light else "resnets.0.block1"
        wide = [f"body.{n}.{last}.weight" for n in range(rows - light)]
    else:
        blocks = _PUBLISHED_BLOCKS
        wide = [f"body.{n}.block1.weight" for n in range(0, rows, blocks)]
    widths = tuple(tensors[name].shape[0] for name in wide if name in tensors)
    if not widths or len(widths) < len(wide):
        raise FileProblem(f"{path} is no complete T2I-Adapter: tensors of some levels are missing. Get it again.")
    return _config(LIGHT if light else XL if fold == 16 else FULL, in_channels, widths, blocks, fold)


def _built(config: T2IAdapterConfig, tensors: dict[str, Tensor]) -> T2IAdapter:
    return filled(lambda: T2IAdapter(config), tensors)
