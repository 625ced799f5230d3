"""Our `PixArt` and the folders of diffusers' `PixArtTransformer2DModel`, once `Transformer2DModel`: both ways.

The two classes are one net under one set of names; the older, which can be many nets, has other defaults. Their
timestep is our clock times `clock_scale`; their micro-conditions `resolution` and `aspect_ratio` are our `vector`.
Weights as the authors published them: `original_pixart`. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from huggingvis.checkpoints import diffusers_common as common
from huggingvis.checkpoints.assign import filled
from huggingvis.checkpoints.diffusers_common import BLOCKS, MOST, Json, rename, settings, unsupported
from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.core.errors import UsageError, about, unknown
from huggingvis.nets.pixart import PixArt, PixArtConfig

CLASS, OLDER = "PixArtTransformer2DModel", "Transformer2DModel"

_ONLY: dict[str, tuple[Any, ...]] = {
    "norm_type": ("ada_norm_single",), "activation_fn": ("gelu-approximate",), "attention_bias": (True,),
    "norm_elementwise_affine": (False,), "attention_type": ("default",), "upcast_attention": (False,),
    "dropout": (0.0,), "only_cross_attention": (False,), "double_self_attention": (False,),
    "num_vector_embeds": (None,), "use_linear_projection": (False,),
}  # fmt: skip
_DEFAULTS: dict[str, Any] = {
    "num_attention_heads": 16, "attention_head_dim": 72, "in_channels": 4, "out_channels": 8, "num_layers": 28,
    "cross_attention_dim": 1152, "attention_bias": True, "sample_size": 128, "patch_size": 2,
    "activation_fn": "gelu-approximate", "norm_type": "ada_norm_single", "norm_elementwise_affine": False,
    "norm_eps": 1e-6, "caption_channels": 4096, "dropout": 0.0, "interpolation_scale": 1.0,
    "use_additional_conditions": False,
}  # fmt: skip
_OLDER_DEFAULTS: dict[str, Any] = _DEFAULTS | {
    "attention_head_dim": 88, "num_layers": 1, "attention_bias": False, "activation_fn": "geglu",
    "norm_type": "layer_norm", "norm_elementwise_affine": True, "norm_eps": 1e-5,
}  # fmt: skip
_NO_DEFAULT = {
    CLASS: ("caption_channels",),
    OLDER: ("caption_channels", "in_channels", "patch_size", "sample_size", "cross_attention_dim"),
}  # fmt: skip
_MAY_BE_NULL = ("out_channels", "interpolation_scale", "use_additional_conditions")
_WHOLE = (
    "num_attention_heads", "attention_head_dim", "in_channels", "out_channels", "num_layers", "patch_size",
    "sample_size", "caption_channels",
)  # fmt: skip


def complete(theirs: Json) -> dict[str, Any]:
    """`config.json` with diffusers' defaults filled in. Raises `FileProblem` for what our net does not compute."""
    name = str(theirs.get("_class_name", CLASS))
    if name not in (CLASS, OLDER):
        raise unknown("transformer of diffusers that is a PixArt", name, (CLASS, OLDER))
    for key in _NO_DEFAULT[name]:
        if theirs.get(key) is None:
            raise unsupported(key, None, f"a number, such as {_DEFAULTS[key]}")
    given = {key: value for key, value in theirs.items() if value is not None or key not in _MAY_BE_NULL}
    full = settings(given, _DEFAULTS if name == CLASS else _OLDER_DEFAULTS, _ONLY)
    for key in _WHOLE:
        if not isinstance(full[key], int) or full[key] < 1:
            raise unsupported(key, full[key], "whole numbers from 1 on")
    if theirs.get("out_channels", 8 if name == CLASS else None) is None:
        full["out_channels"] = full["in_channels"]
    if theirs.get("interpolation_scale") is None:
        full["interpolation_scale"] = max(full["sample_size"] // 64, 1)
    if theirs.get("use_additional_conditions") is None:
        full["use_additional_conditions"] = full["sample_size"] == 128
    _check_sizes(full)
    return full


def _check_sizes(full: Json) -> None:
    width = full["num_attention_heads"] * full["attention_head_dim"]
    step = 12 if full["use_additional_conditions"] else 4
    if width % step or width > MOST:
        raise unsupported("attention_head_dim", full["attention_head_dim"], f"a net's width that {step} divides")
    if full["cross_attention_dim"] != width:
        raise unsupported("cross_attention_dim", full["cross_attention_dim"], f"the net's own width, {width}")
    if full["num_layers"] > BLOCKS:
        raise unsupported("num_layers", full["num_layers"], f"at most {BLOCKS}")
    most = min(full["sample_size"], int((MOST / max(full["in_channels"], full["out_channels"])) ** 0.5))
    if full["patch_size"] > most:
        raise unsupported("patch_size", full["patch_size"], f"at most {most} with these sizes")
    for key in ("interpolation_scale", "norm_eps"):
        if not isinstance(full[key], int | float) or full[key] <= 0:
            raise unsupported(key, full[key], "one number above 0")


def config_from_diffusers(theirs: Json) -> PixArtConfig:
    """Our sizes from their `config.json`. Raises `FileProblem` naming the first setting that we cannot express."""
    full = complete(theirs)
    return PixArtConfig(
        in_channels=full["in_channels"],
        out_channels=full["out_channels"],
        patch=full["patch_size"],
        size=full["sample_size"],
        interpolation=float(full["interpolation_scale"]),
        heads=full["num_attention_heads"],
        head_dim=full["attention_head_dim"],
        depth=full["num_layers"],
        tokens_dim=full["caption_channels"],
        sizes=full["use_additional_conditions"],
        norm_eps=float(full["norm_eps"]),
    )


def config_to_diffusers(config: PixArtConfig) -> dict[str, Any]:
    """A `config.json` for our sizes."""
    c = config
    return {
        "_class_name": CLASS, "activation_fn": "gelu-approximate", "attention_bias": True,
        "attention_head_dim": c.head_dim, "attention_type": "default", "caption_channels": c.tokens_dim,
        "cross_attention_dim": c.width, "dropout": 0.0, "in_channels": c.in_channels,
        "interpolation_scale": c.interpolation, "norm_elementwise_affine": False, "norm_eps": c.norm_eps,
        "norm_type": "ada_norm_single", "num_attention_heads": c.heads, "num_embeds_ada_norm": 1000,
        "num_layers": c.depth, "out_channels": c.out_channels, "patch_size": c.patch, "sample_size": c.size,
        "upcast_attention": False, "use_additional_conditions": c.sizes,
    }  # fmt: skip


def keymap() -> KeyMap:
    """Names of the net, of whatever size. Ignored: positions, and what early files had for texts left out."""
    single, block, layers = "adaln_single.emb", "transformer_blocks.{i}", (("fc1", "linear_1"), ("fc2", "linear_2"))
    embedders = (("time", "timestep_embedder"), ("resolution", "resolution_embedder"),
                 ("aspect", "aspect_ratio_embedder"))  # fmt: skip
    attention = tuple((f"attn{n}.{a}", f"attn{n}.{b}") for n in (1, 2) for a, b in common.ATTENTION)
    rules = [
        *rename("patches", "pos_embed", (("proj", "proj"),)),
        *(rule for ours, theirs in embedders for rule in rename(ours, f"{single}.{theirs}", layers)),
        Rule("modulation.{leaf:word}", "adaln_single.linear.{leaf:word}"),
        *rename("text", "caption_projection", layers),
        Rule("blocks.{i}.table", f"{block}.scale_shift_table"),
        *rename("blocks.{i}", block, (*attention, ("ff.fc1", "ff.net.0.proj"), ("ff.fc2", "ff.net.2"))),
        Rule("table", "scale_shift_table"),
        Rule("out.{leaf:word}", "proj_out.{leaf:word}"),
    ]
    return KeyMap(rules, ignored=("pos_embed.pos_embed", "caption_projection.y_embedding"))


def from_diffusers(folder: Path | str, *, dtype: torch.dtype | None = None) -> PixArt:
    """The net in a diffusers folder, in evaluation mode; `dtype` None keeps the file's. Raises `FileProblem`."""
    with about(folder):
        config = config_from_diffusers(common.read_config(folder))
        ours = keymap().to_ours(common.read_weights(folder))
        return filled(lambda: PixArt(config), {name: x.to(dtype or x.dtype) for name, x in ours.items()})


def to_diffusers(net: PixArt, folder: Path | str, theirs: Json | None = None) -> Path:
    """Write `net` as a folder that diffusers loads; returns it.

    `theirs`: a `config.json` to keep, as of the checkpoint that `net` came from. Raises `UsageError` if it describes
    another net.
    """
    theirs = config_to_diffusers(net.config) if theirs is None else theirs
    if config_from_diffusers(theirs) != replace(net.config, clock_scale=1.0):
        raise UsageError(
            "The config.json given describes a transformer of other sizes than the one to be written; leave it out."
        )
    return common.write_folder(folder, theirs, keymap().to_theirs(net.state_dict()))
