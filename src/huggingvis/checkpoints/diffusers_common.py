"""What the model folders of diffusers share: `config.json`, the weights beside it, and the names of common blocks.

A folder is read without executing anything and written so that diffusers itself loads it. A setting that our nets
cannot express is refused by name, never ignored. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from huggingvis.checkpoints.io import load, save
from huggingvis.checkpoints.json_files import Json as Json
from huggingvis.checkpoints.json_files import read_json, write_json
from huggingvis.checkpoints.keymap import Rule
from huggingvis.checkpoints.transforms import ConvToLinear, Transform
from huggingvis.core.errors import FileProblem

Sizes = TypeVar("Sizes")

STEM = "diffusion_pytorch_model"
WEIGHTS = (
    f"{STEM}.safetensors.index.json", f"{STEM}.safetensors", f"{STEM}.fp16.safetensors", f"{STEM}.bin.index.json",
    f"{STEM}.bin",
)  # fmt: skip
"""The names under which diffusers keeps weights, the preferred first."""

MOST = 1_000_000
"""No width, count or size of a real model is larger."""
MAY_BE_NULL = ("attention_head_dim",)
"""Settings with a number for their default for which null means something: here, one head."""

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


def read_sizes(folder: Path | str, of: Callable[[Json], Sizes]) -> Sizes:
    """What `of` makes of a model folder's `config.json`, whose path its refusals then tell. Raises `FileProblem`."""
    theirs = read_config(folder)
    try:
        return of(theirs)
    except FileProblem as error:
        raise FileProblem(f"{folder}: {error}") from error


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
        if not _alike(full[key], default) and (full[key] is not None or key not in MAY_BE_NULL):
            raise FileProblem(
                f"config.json should have for {key} a value such as {json.dumps(default)}, found "
                f"{json.dumps(full[key])[:80]}. Download the file again."
            )
    for key, values in only.items():
        if full.get(key, values[0]) not in values:
            allowed = " or ".join(json.dumps(value) for value in values)
            raise unsupported(key, full[key], allowed)
    return full


def _alike(value: Any, default: Any) -> bool:
    """Whether `value` is of the kind of `default`: a number, which may be given once for each level, a list, a word."""
    if isinstance(value, tuple):
        kinds = default if isinstance(default, tuple) else (default,)
        return all(_alike(item, kinds[0]) for item in value if kinds) and not isinstance(default, str | bool)
    if isinstance(default, bool | str):
        return isinstance(value, type(default))
    if isinstance(default, int | float):
        whole = isinstance(default, float) or isinstance(value, int)
        return whole and isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST
    return not isinstance(default, tuple) and not isinstance(value, dict)


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


def same_for_all(value: Any, levels: int, key: str) -> Any:
    """A number given once or once for each level, where all must agree."""
    each = value if isinstance(value, tuple) else (value,) * levels
    if len(each) != levels or len(set(each)) != 1:
        raise unsupported(key, value, f"one value for all {levels} levels")
    return each[0]
