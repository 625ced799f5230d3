"""Our `UNet` and the model folders of diffusers' `UNet2DModel` and `UNet2DConditionModel`: weights, both ways.

Three of their choices are settings of the file and not of ours, for the key map absorbs them exactly: projections as
1x1 convolutions (`use_linear_projection`), the sinusoid's halves exchanged (`flip_sin_to_cos`), and which embedding the
`vector` port is (`class_embedding` or `add_embedding`; SDXL's vector is the pooled text followed by the sinusoids of
six sizes). Their timestep is our clock times `clock_scale`. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch

from huggingvis.checkpoints import diffusers_common as common
from huggingvis.checkpoints.assign import filled
from huggingvis.checkpoints.diffusers_common import Json, projection, rename
from huggingvis.checkpoints.diffusers_unet_config import (
    TEXT,
    complete,
    config_from_diffusers,
    config_to_diffusers,
    kind,
    same_net,
)
from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.checkpoints.transforms import Group, Identity, Transform, Transpose
from huggingvis.core.errors import UsageError, about
from huggingvis.nets.unet import UNet

__all__ = ["SwapHalves", "config_from_diffusers", "config_to_diffusers", "from_diffusers", "keymap", "to_diffusers"]


@final
@dataclass(frozen=True)
class SwapHalves(Transform):
    """The two halves of axis `dim` exchanged: [cos, sin] here, [sin, cos] there."""

    dim: int = 1

    def to_ours(self, theirs: Group) -> Group:
        return tuple(x.roll(x.shape[self.dim] // 2, self.dim) for x in theirs)

    def to_theirs(self, ours: Group) -> Group:
        return self.to_ours(ours)


def keymap(theirs: Json) -> KeyMap:
    """Names of the net that `config.json` describes."""
    text, full = kind(theirs) == TEXT, complete(theirs)
    ends = (("conv_in", "conv_in"), ("norm_out", "conv_norm_out"), ("conv_out", "conv_out"))
    rules = [Rule(f"{a}.{{leaf:word}}", f"{b}.{{leaf:word}}") for a, b in ends]
    swap: Transform = Identity() if full["flip_sin_to_cos"] else SwapHalves()
    rules += [Rule("time.fc1.weight", "time_embedding.linear_1.weight", swap)]
    rules += [Rule("time.fc1.bias", "time_embedding.linear_1.bias")]
    rules += rename("time", "time_embedding", (("fc2", "linear_2"),))
    if full.get("time_cond_proj_dim"):
        rules += [Rule("time.guidance.weight", "time_embedding.cond_proj.weight", SwapHalves())]
    rules += _vector_rules(full)
    for side in ("down", "up"):
        rules += rename(f"{side}.{{i}}", f"{side}_blocks.{{i}}", (("resample.conv", f"{side}samplers.0.conv"),))
    for ours, there in (("down.{i}", "down_blocks.{i}"), ("middle", "mid_block"), ("up.{i}", "up_blocks.{i}")):
        rules += rename(f"{ours}.blocks.{{j}}", f"{there}.resnets.{{j}}", common.RESBLOCK)
        attention = (f"{ours}.attention.{{j}}", f"{there}.attentions.{{j}}")
        conv = not full.get("use_linear_projection", True)
        rules += _transformer(*attention, conv) if text else rename(*attention, common.MAP_ATTENTION)
    return KeyMap(rules)


def _vector_rules(full: Json) -> list[Rule]:
    if full["num_class_embeds"] is not None:
        return [Rule("vector.weight", "class_embedding.weight", Transpose())]
    where = "add_embedding" if full.get("addition_embed_type") else "class_embedding"
    return rename("vector", where, (("0", "linear_1"), ("2", "linear_2")))


def _transformer(ours: str, theirs: str, conv: bool) -> list[Rule]:
    block = [(f"norm{n}", f"norm{n}") for n in (1, 2, 3)] + [("ff.fc1", "ff.net.0.proj"), ("ff.fc2", "ff.net.2")]
    block += [(f"attn{n}.{a}", f"attn{n}.{b}") for n in (1, 2) for a, b in common.ATTENTION]
    return [
        *rename(ours, theirs, (("norm", "norm"),)),
        *projection(f"{ours}.proj_in", f"{theirs}.proj_in", conv),
        *rename(f"{ours}.blocks.{{k}}", f"{theirs}.transformer_blocks.{{k}}", tuple(block)),
        *projection(f"{ours}.proj_out", f"{theirs}.proj_out", conv),
    ]


def from_diffusers(folder: Path | str, *, dtype: torch.dtype | None = None, channels_last: bool = False) -> UNet:
    """The net in a diffusers folder, in evaluation mode; `dtype` None keeps the file's. Raises `FileProblem`.

    `channels_last`: its convolutions' weights are laid out so, as fast kernels want them.
    """
    with about(folder):
        theirs = common.read_config(folder)
        config, names = config_from_diffusers(theirs), keymap(theirs)
        tensors = common.read_weights(folder, dtype, channels_last=channels_last)
        return filled(lambda: UNet(config), names.consume(tensors))


def to_diffusers(net: UNet, folder: Path | str, theirs: Json | None = None) -> Path:
    """Write `net` as a folder that diffusers loads; returns it.

    `theirs`: a `config.json` to keep, as of the checkpoint that `net` came from. Raises `UsageError` if it describes
    another net, or if diffusers has none like ours.
    """
    theirs = config_to_diffusers(net.config) if theirs is None else theirs
    if not same_net(config_from_diffusers(theirs), net.config):
        raise UsageError(
            "The config.json given describes a net of other sizes than the one to be written; leave it out."
        )
    return common.write_folder(folder, theirs, keymap(theirs).to_theirs(net.state_dict()))
