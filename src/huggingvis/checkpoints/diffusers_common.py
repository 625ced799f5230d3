"""What the model folders of diffusers share: `config.json`, the weights beside it, and the names of common blocks.

A folder is read without executing anything and written so that diffusers itself loads it. A setting that our nets
cannot express is refused by name, never ignored. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from huggingvis.checkpoints.io import load, save
from huggingvis.checkpoints.json_files import Json as Json
from huggingvis.checkpoints.json_files import read_json, write_json
from huggingvis.checkpoints.keymap import Rule
from huggingvis.checkpoints.transforms import ConvToLinear, Transform
from huggingvis.core.errors import FileProblem

STEM = "diffusion_pytorch_model"
WEIGHTS = (
    f"{STEM}.safetensors.index.json", f"{STEM}.safetensors", f"{STEM}.fp16.safetensors", f"{STEM}.bin.index.json",
    f"{STEM}.bin",
)  # fmt: skip
"""The names under which diffusers keeps weights, the preferred first."""

MOST = 1_000_000
"""No width, count or size of a real model is larger."""
LONGEST, LEVELS, BLOCKS = 8192, 32, 1000
"""Nor has one longer sides, more levels, or more blocks in a row."""
MAY_BE_NULL = ("attention_head_dim",)
"""Settings with a number for their default for which null means something: here, one head."""
MAY_BE_ZERO = ("downsample_padding", "eos_token_id", "corrector_order")
"""Whole numbers that are no counts, or of what may be left out; all others begin at 1 where their default does."""
BY_LEVEL = ("layers_per_block", "attention_head_dim", "cross_attention_dim", "transformer_layers_per_block")
"""Numbers that may be given once for each level."""

RESBLOCK = (("norm1", "norm1"), ("conv1", "conv1"), ("emb", "time_emb_proj"), ("norm2", "norm2"), ("conv2", "conv2"),
            ("skip", "conv_shortcut"))  # fmt: skip
ATTENTION = (("to_q", "to_q"), ("to_k", "to_k"), ("to_v", "to_v"), ("to_out", "to_out.0"))
MAP_ATTENTION = (("norm", "group_norm"), *((f"attn.{ours}", theirs) for ours, theirs in ATTENTION))

_OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD_NAME = re.compile(r"(.*attentions\.[0-9]+)\.(query|key|value|proj_attn)\.(weight|bias)")


def rename(ours: str, theirs: str, pairs: tuple[tuple[str, str], ...]) -> list[Rule]:
    """A rule for each pair of layers, below the two prefixes."""
    return [Rule(f"{ours}.{a}.{{leaf:word}}", f"{theirs}.{b}.{{leaf:word}}") for a, b in pairs]


def projection(ours: str, theirs: str, conv: bool) -> list[Rule]:
    """A linear layer of ours that is a 1x1 convolution of theirs when `conv`."""
    if not conv:
        return [Rule(f"{ours}.{{leaf:word}}", f"{theirs}.{{leaf:word}}")]
    weight: Transform = ConvToLinear()
    return [Rule(f"{ours}.weight", f"{theirs}.weight", weight), Rule(f"{ours}.bias", f"{theirs}.bias")]


def modern(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` with today's names for map attention, which older files call query, key, value, proj_attn."""
    return {_modern(name): tensor for name, tensor in tensors.items()}


def _modern(name: str) -> str:
    found = _OLD_NAME.fullmatch(name)
    return f"{found[1]}.{_OLD[found[2]]}.{found[3]}" if found else name


def read_config(folder: Path | str) -> dict[str, Any]:
    """`config.json` of a model folder. Raises `FileProblem`."""
    return read_json(Path(folder) / "config.json")


def trained_sides(theirs: Json, usual: int | None = None) -> tuple[int, int]:
    """(width, height) that a net was trained on, in latents or pixels: one number, or height and width, as its
    `sample_size` says; `usual` where that says nothing. Raises `FileProblem`."""
    told = theirs.get("sample_size")
    size: Any = usual if told is None else told
    height, width = size if isinstance(size, list) and len(size) == 2 else (size, size)
    if not all(type(side) is int and 1 <= side <= LONGEST for side in (height, width)):
        raise FileProblem(
            f"config.json should have for sample_size the side of what the net was trained on, 1 to {LONGEST}, or "
            f"height and width; found {json.dumps(told)[:80]}. Set it to that."
        )
    return width, height


def read_weights(
    folder: Path | str, dtype: torch.dtype | None = None, *, channels_last: bool = False
) -> dict[str, Tensor]:
    """The tensors beside a `config.json`, under today's names, as `dtype` if it is given. Raises `FileProblem`.

    `channels_last`: as in `io.load`.
    """
    folder = Path(folder)
    for name in WEIGHTS:
        if (folder / name).is_file():
            return modern(load(folder / name, dtype=dtype, channels_last=channels_last))
    raise FileProblem(f"{folder} holds no weights: expected one of {', '.join(WEIGHTS)} beside config.json.")


def write_folder(folder: Path | str, config: Json, tensors: Mapping[str, Tensor], stem: str = STEM) -> Path:
    """A model folder that diffusers loads, or transformers where `stem` is "model"; returns it."""
    folder = Path(folder)
    write_json(folder / "config.json", config)
    save(folder / f"{stem}.safetensors", tensors, {"format": "pt"})
    return folder


def settings(theirs: Json, defaults: Json, only: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    """`theirs` completed by diffusers' `defaults`, lists as tuples.

    `only`: settings of which our nets know these values alone; absent ones have the first. Raises `FileProblem`.
    """
    full = {key: tuple(value) if isinstance(value, list) else value for key, value in {**defaults, **theirs}.items()}
    for key, default in defaults.items():
        if not _fits(key, full[key], default):
            raise FileProblem(
                f"config.json should have for {key} a value such as {json.dumps(default)}, found "
                f"{json.dumps(full[key])[:80]}. Download the file again."
            )
    for key, values in only.items():
        if full.get(key, values[0]) not in values:
            allowed = " or ".join(json.dumps(value) for value in values)
            raise unsupported(key, full[key], allowed)
    return full


def _fits(key: str, value: Any, default: Any) -> bool:
    """Whether `value` is what the setting `key` can be: of the kind of its default, or such for each level."""
    if value is None and key in MAY_BE_NULL:
        return True
    if isinstance(default, tuple):
        return isinstance(value, tuple) and (not default or _each_fits(key, value, default[0]))
    if isinstance(value, tuple) and default is not None:
        return key in BY_LEVEL and _each_fits(key, value, default)
    return _alike(key, value, default)


def _each_fits(key: str, values: tuple[Any, ...], default: Any) -> bool:
    return 1 <= len(values) <= LEVELS and all(_alike(key, value, default) for value in values)


def _alike(key: str, value: Any, default: Any) -> bool:
    """Whether `value` is of the kind of `default`: a yes or no, a word, a number."""
    if isinstance(default, bool | str):
        return isinstance(value, type(default))
    if isinstance(default, int):
        return type(value) is int and (0 if key in MAY_BE_ZERO else min(default, 1)) <= value <= MOST
    if isinstance(default, float):
        return type(value) in (int, float) and 0 <= value <= MOST
    return not isinstance(value, dict)


def unsupported(key: str, found: Any, allowed: str) -> FileProblem:
    """The error for a setting of `config.json` that no net of ours computes."""
    if key == "_class_name":
        return FileProblem(
            f"config.json is of the class {json.dumps(found)}, and what is read here is {allowed}. Name a folder of "
            "that class."
        )
    return FileProblem(
        f"config.json asks for {key} = {json.dumps(found)}, which this net does not compute; it knows {allowed}. Use "
        "another checkpoint of the family, or convert this one where it was made."
    )


def blocks_of(full: Json, levels: int, depth: int = 1) -> int:
    """Blocks of each level, of which each has `depth` layers at most. Raises `FileProblem` for absurdly many."""
    blocks = same_for_all(full["layers_per_block"], levels, "layers_per_block")
    if blocks * levels * depth > BLOCKS:
        raise unsupported("layers_per_block", blocks, f"at most {BLOCKS} in all levels, with all layers of each")
    return int(blocks)


def same_for_all(value: Any, levels: int, key: str) -> Any:
    """A number given once or once for each level, where all must agree."""
    each = value if isinstance(value, tuple) else (value,) * levels
    if len(each) != levels or len(set(each)) != 1:
        raise unsupported(key, value, f"one value for all {levels} levels")
    return each[0]
