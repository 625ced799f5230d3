"""A U-Net by itself in one file with diffusers' names, as the makers of distilled models publish them.

    parts = read_unet(inspect("sdxl_lightning_4step_unet.safetensors"))

Its sizes are told by shapes, or by a `config.json` beside it. Heads and groups have no shape: they are the family's, as
in single files. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from huggingvis.checkpoints import diffusers_unet
from huggingvis.checkpoints.assign import filled
from huggingvis.checkpoints.diffusers_common import read_config
from huggingvis.checkpoints.diffusers_unet_config import TEXT
from huggingvis.checkpoints.formats import TensorFact
from huggingvis.checkpoints.inspect import Facts
from huggingvis.checkpoints.io import load
from huggingvis.checkpoints.single_file import Parts
from huggingvis.checkpoints.single_file_detect import layout_of_unet
from huggingvis.checkpoints.single_file_family import CONV_HEADS, GROUPS, LINEAR_HEAD_DIM, diffusers_unet_prefix
from huggingvis.checkpoints.single_file_layout import NOTHING, Said
from huggingvis.checkpoints.single_file_shapes import Names
from huggingvis.core.errors import about
from huggingvis.nets.unet import UNet


def read_unet(
    facts: Facts, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu", said: Said = NOTHING
) -> Parts:
    """The net in a file of which `diffusers_unet_prefix` finds the names; `dtype` as of `single_file.read_parts`.

    Raises `FileProblem` for sizes that make no net of the family, and for a damaged file.
    """
    prefix = diffusers_unet_prefix(facts.tensors) or ""
    with about(facts.path):
        theirs = _beside(facts) or settings_of(facts.tensors, prefix, said)
        config = diffusers_unet.config_from_diffusers(theirs)
        layout = layout_of_unet(config, bool(theirs.get("use_linear_projection")), said, facts.metadata)
        eight_bit = any(fact.dtype.startswith("F8") for fact in facts.tensors.values())
        kind = torch.bfloat16 if dtype is None and eight_bit else dtype
        wanted = load(facts.path, dtype=kind, device=device, wanted=lambda n: n.startswith(prefix), channels_last=True)
        tensors = {name.removeprefix(prefix): wanted.pop(name) for name in list(wanted)}
        net = filled(lambda: UNet(config), diffusers_unet.keymap(theirs).consume(tensors))
    return Parts(layout, net, metadata=dict(facts.metadata))


def settings_of(tensors: Mapping[str, TensorFact], prefix: str, said: Said) -> dict[str, Any]:
    """What a `config.json` would say of the net whose tensors' names begin with `prefix`. Raises `FileProblem`."""
    names = Names(tensors, prefix, "U-Net")
    levels = names.count("down_blocks.{}.resnets.0.conv1.weight")
    widths = [names.of(f"down_blocks.{n}.resnets.0.conv1.weight", 4)[0] for n in range(levels)]
    blocks = [names.count(f"down_blocks.{n}.resnets.{{}}.conv1.weight") for n in range(levels)]
    depths = [names.count(f"down_blocks.{n}.attentions.0.{_DEPTH}") for n in range(levels)]
    middle = names.count(f"mid_block.attentions.0.{_DEPTH}")
    if len(set(blocks)) != 1 or not middle:
        raise names.strange(f"its levels have {blocks} blocks, its middle {middle} transformer blocks")
    linear = names.ndim("mid_block.attentions.0.proj_in.weight") == 2
    dim = said.head_dim or (LINEAR_HEAD_DIM if linear and not said.heads else None)
    down = ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths]
    return {
        "_class_name": TEXT,
        "in_channels": names.of("conv_in.weight", 4)[1],
        "out_channels": names.of("conv_out.weight", 4)[0],
        "block_out_channels": widths,
        "layers_per_block": blocks[0],
        "down_block_types": down,
        "up_block_types": [name.replace("Down", "Up") for name in reversed(down)],
        "transformer_layers_per_block": [depth or 1 for depth in (*depths[:-1], middle)],
        "cross_attention_dim": names.of("mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight", 2)[1],
        "attention_head_dim": [max(1, width // dim) for width in widths] if dim else said.heads or CONV_HEADS,
        "use_linear_projection": linear,
        "norm_num_groups": said.groups or GROUPS,
        **_vectors(names),
    }


_DEPTH = "transformer_blocks.{}.norm1.weight"


def _vectors(names: Names) -> dict[str, Any]:
    """The vector beside the clock, and the guidance's that consistency models are told."""
    found: dict[str, Any] = {}
    for name, key, kind in (
        ("add_embedding", "addition_embed_type", "text_time"),
        ("class_embedding", "class_embed_type", "projection"),
    ):
        if f"{name}.linear_1.weight" in names:
            width = names.of(f"{name}.linear_1.weight", 2)[1]
            found |= {key: kind, "projection_class_embeddings_input_dim": width}
    if "time_embedding.cond_proj.weight" in names:
        found["time_cond_proj_dim"] = names.of("time_embedding.cond_proj.weight", 2)[1]
    return found


def _beside(facts: Facts) -> Mapping[str, Any] | None:
    """The settings in the same folder, where they are of such a net."""
    folder = facts.path.parent
    theirs = read_config(folder) if (folder / "config.json").is_file() else {}
    return theirs if theirs.get("_class_name") == TEXT else None
