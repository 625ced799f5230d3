"""Our `PixArt` and the weights as its authors publish them (`PixArt-XL-2-1024-MS.pth` and kin): both ways.

A file without settings: sizes are told by its tensors. The number of heads is not, 16 in all that were published; what
a picture's places span is read from the table of positions that the file brings along, as programs disagree about it
for the net of 256 x 256. What the file holds for texts left out in training (`y_embedding`) is no part of the net.
Chen et al. 2023 (arXiv 2310.00426). Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from huggingvis.checkpoints.assign import filled
from huggingvis.checkpoints.diffusers_common import rename
from huggingvis.checkpoints.io import load, save
from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.checkpoints.transforms import Split
from huggingvis.core.errors import FileProblem
from huggingvis.nets.dit_blocks import sincos_positions
from huggingvis.nets.pixart import PixArt, PixArtConfig

POSITIONS, LEFT_OUT = "pos_embed", "y_embedder.y_embedding"
HEADS = 16
USUAL_SIZE = 64
"""Side of latents on which patches are one apart; where a net has more, they are nearer to one another."""
MOST_PATCHES = 1024
"""No table of positions has a longer side."""


def keymap() -> KeyMap:
    """Names of the net, of whatever size: query, key and value are one tensor there, or key and value."""
    rules = [
        *rename("patches", "x_embedder", (("proj", "proj"),)),
        *rename("text", "y_embedder.y_proj", (("fc1", "fc1"), ("fc2", "fc2"))),
        *(rule for ours, theirs in (("time", "t"), ("resolution", "csize"), ("aspect", "ar"))
          for rule in rename(ours, f"{theirs}_embedder.mlp", (("fc1", "0"), ("fc2", "2")))),
        Rule("modulation.{leaf:word}", "t_block.1.{leaf:word}"),
        Rule("blocks.{i}.table", "blocks.{i}.scale_shift_table"),
        _fused("blocks.{i}.attn1", ("to_q", "to_k", "to_v"), "blocks.{i}.attn.qkv"),
        _fused("blocks.{i}.attn2", ("to_k", "to_v"), "blocks.{i}.cross_attn.kv_linear"),
        *rename("blocks.{i}", "blocks.{i}", (
            ("attn1.to_out", "attn.proj"), ("attn2.to_q", "cross_attn.q_linear"), ("attn2.to_out", "cross_attn.proj"),
            ("ff.fc1", "mlp.fc1"), ("ff.fc2", "mlp.fc2"),
        )),
        Rule("table", "final_layer.scale_shift_table"),
        Rule("out.{leaf:word}", "final_layer.linear.{leaf:word}"),
    ]  # fmt: skip
    return KeyMap(rules, ignored=(POSITIONS, LEFT_OUT))


def _fused(ours: str, parts: tuple[str, ...], theirs: str) -> Rule:
    return Rule(
        tuple(f"{ours}.{part}.{{leaf:word}}" for part in parts), f"{theirs}.{{leaf:word}}", Split(len(parts))
    )  # fmt: skip


def config_from_tensors(tensors: Mapping[str, Tensor], *, heads: int = HEADS, size: int | None = None) -> PixArtConfig:
    """Our sizes from the shapes of the original tensors.

    `size`: side of the latents trained on, for files without a table of positions that tells it; places are then as
    in the nets of 512 x 512 and 1024 x 1024. Raises `FileProblem` for what is no PixArt.
    """
    width, channels, patch, _ = _shape(tensors, "x_embedder.proj.weight", 4)
    _, tokens_dim = _shape(tensors, "y_embedder.y_proj.fc1.weight", 2)
    out, _ = _shape(tensors, "final_layer.linear.weight", 2)
    if not width or not patch or width % heads or out % patch**2:
        raise FileProblem(
            f"A PixArt of {heads} heads has a width that they divide and predicts squares of {patch} x {patch}, found "
            f"the width {width} and {out} numbers for each square. Say how many heads it has, if not {heads}."
        )
    side, interpolation = _places(tensors.get(POSITIONS), width, patch, size)
    return PixArtConfig(
        in_channels=channels,
        out_channels=out // patch**2,
        patch=patch,
        size=side,
        interpolation=interpolation,
        heads=heads,
        head_dim=width // heads,
        depth=len({name for name in tensors if name.startswith("blocks.") and name.endswith(".scale_shift_table")}),
        tokens_dim=tokens_dim,
        sizes="csize_embedder.mlp.0.weight" in tensors,
    )


def _shape(tensors: Mapping[str, Tensor], name: str, axes: int) -> tuple[int, ...]:
    if name not in tensors or tensors[name].ndim != axes:
        found = f"of shape {list(tensors[name].shape)}" if name in tensors else "missing"
        raise FileProblem(
            f"A PixArt as its authors publish it has {name} with {axes} axes, but here it is {found}. The file belongs "
            "to another model, or was converted: load a folder of diffusers as such."
        )
    return tuple(tensors[name].shape)


def _places(table: Tensor | None, width: int, patch: int, size: int | None) -> tuple[int, float]:
    """Side of the latents trained on, and the interpolation of places."""
    if size is not None:
        return size, size / USUAL_SIZE
    if table is None:
        raise FileProblem(
            f"This PixArt lacks {POSITIONS}, which tells the size of pictures it was trained on. Say it as `size`: 64 "
            "for the net of 512 x 512 pixels, 128 for 1024 x 1024."
        )
    side = math.isqrt(table.shape[-2]) if table.ndim > 1 else 0
    if table.shape[-2:] != (side**2, width) or not 2 <= side <= MOST_PATCHES or width % 4:
        raise FileProblem(
            f"The places of a PixArt's patches are a square table as wide as the net, {width}, found "
            f"{POSITIONS} of shape {list(table.shape)}. The file belongs to another model."
        )
    first = table.reshape(side, side, width)[0].float()  # [side, D], the places along the first row
    place = math.atan2(first[1, 0], first[1, width // 4])  # of the second patch: 1 / interpolation
    interpolation = round(64 / place) / 64 if place > 0 else 0.0  # half precision keeps three digits
    if not interpolation or (sincos_positions(1, side, width, side / interpolation) - first).abs().max() > 0.02:
        raise FileProblem(
            f"The places of a PixArt's patches are sines and cosines at even distances, but {POSITIONS} of this file "
            "holds something else. Say the side of latents it was trained on as `size`, if you know it."
        )
    return side * patch, interpolation


def from_original(
    path: Path | str, *, heads: int = HEADS, size: int | None = None, dtype: torch.dtype | None = None
) -> PixArt:
    """The net in an original file, in evaluation mode; `dtype` None keeps the file's. Raises `FileProblem`.

    `size`: as in `config_from_tensors`.
    """
    theirs = load(path, dtype=dtype)
    config = config_from_tensors(theirs, heads=heads, size=size)
    ours = keymap().to_ours(theirs)
    return filled(lambda: PixArt(config), ours)


def to_original(net: PixArt, path: Path | str, *, left_out: Tensor | None = None) -> Path:
    """Write `net` under the original names, with its table of positions, as safetensors; returns the path.

    `left_out`: T5's tokens of the empty text [L, C], which the authors' own programs guide away from and so need.
    """
    c = net.config
    side = c.size // c.patch
    theirs = keymap().to_theirs(net.state_dict())
    theirs[POSITIONS] = sincos_positions(side, side, c.width, c.extent)[None]
    if left_out is not None:
        theirs[LEFT_OUT] = left_out
    return save(path, theirs)
