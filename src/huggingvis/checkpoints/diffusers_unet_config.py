"""Sizes of our `UNet` and the `config.json` of diffusers' `UNet2DModel` and `UNet2DConditionModel`, both ways.

The first is the net of Ho et al. 2020 (arXiv 2006.11239), self-attention only; the second that of Rombach et al. 2022
(arXiv 2112.10752) and of Stable Diffusion 1, 2 and XL, with text tokens. What no net of ours computes is refused by
name. Weights: `diffusers_unet`. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

from huggingvis.checkpoints.diffusers_common import MOST, Json, blocks_of, same_for_all, settings, unsupported
from huggingvis.core.errors import FileProblem, UsageError, unknown
from huggingvis.nets.unet import UNetConfig

PLAIN, TEXT = "UNet2DModel", "UNet2DConditionModel"

_COMMON_ONLY: dict[str, tuple[Any, ...]] = {
    "center_input_sample": (False,), "time_embedding_type": ("positional",), "act_fn": ("silu", "swish"),
    "mid_block_scale_factor": (1, None), "resnet_time_scale_shift": ("default", "scale_shift"),
    "downsample_padding": (1, 0), "class_embeddings_concat": (False,),
}  # fmt: skip
_PLAIN_ONLY: dict[str, tuple[Any, ...]] = _COMMON_ONLY | {
    "mid_block_type": ("UNetMidBlock2D",), "downsample_type": ("conv",), "upsample_type": ("conv",),
    "class_embed_type": (None,),
}  # fmt: skip
_TEXT_ONLY: dict[str, tuple[Any, ...]] = _COMMON_ONLY | {
    "mid_block_type": ("UNetMidBlock2DCrossAttn",), "only_cross_attention": (False,), "attention_type": ("default",),
    "reverse_transformer_layers_per_block": (None,), "encoder_hid_dim_type": (None,), "encoder_hid_dim": (None,),
    "num_attention_heads": (None,), "dual_cross_attention": (False,), "class_embed_type": (None, "projection"),
    "addition_embed_type": (None, "text_time"), "resnet_skip_time_act": (False,), "resnet_out_scale_factor": (1.0,),
    "time_embedding_act_fn": (None,), "timestep_post_act": (None,),
    "conv_in_kernel": (3,), "conv_out_kernel": (3,), "cross_attention_norm": (None,),
    "mid_block_only_cross_attention": (None, False),
}  # fmt: skip
_COMMON_DEFAULTS: dict[str, Any] = {
    "flip_sin_to_cos": True, "freq_shift": 0, "layers_per_block": 2, "downsample_padding": 1, "dropout": 0.0,
    "norm_num_groups": 32, "norm_eps": 1e-5, "attention_head_dim": 8, "resnet_time_scale_shift": "default",
    "num_class_embeds": None, "time_embedding_dim": None, "class_embed_type": None,
}  # fmt: skip
_PLAIN_DEFAULTS: dict[str, Any] = _COMMON_DEFAULTS | {
    "in_channels": 3, "out_channels": 3, "block_out_channels": (224, 448, 672, 896), "add_attention": True,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"), "attn_norm_num_groups": None,
}  # fmt: skip
_TEXT_DEFAULTS: dict[str, Any] = _COMMON_DEFAULTS | {
    "in_channels": 4, "out_channels": 4, "block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 1280,
    "down_block_types": (*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *["CrossAttnUpBlock2D"] * 3), "transformer_layers_per_block": 1,
    "use_linear_projection": False, "addition_embed_type": None, "projection_class_embeddings_input_dim": None,
    "time_cond_proj_dim": None,
}  # fmt: skip


def kind(theirs: Json) -> str:
    """Which of the two classes a `config.json` describes. Raises `UsageError` for another class."""
    name = theirs.get("_class_name", TEXT if "cross_attention_dim" in theirs else PLAIN)
    if name not in (PLAIN, TEXT):
        raise unknown("U-Net of diffusers that this library reads", str(name), (PLAIN, TEXT))
    return name


def complete(theirs: Json, *, check: bool = False) -> dict[str, Any]:
    """`config.json` with diffusers' defaults filled in; `check` refuses what our net does not compute."""
    if kind(theirs) == TEXT:
        return settings(theirs, _TEXT_DEFAULTS, _TEXT_ONLY if check else {})
    return settings(theirs, _PLAIN_DEFAULTS, _PLAIN_ONLY if check else {})


def config_from_diffusers(theirs: Json) -> UNetConfig:
    """Our sizes from their `config.json`. Raises `FileProblem` naming the first setting that we cannot express.

    Channels beyond those predicted (inpainting, depth, editing) become the `concat` port.
    """
    full = complete(theirs, check=True)
    widths = full["block_out_channels"]
    if len(full["down_block_types"]) != len(widths):
        raise unsupported("down_block_types", full["down_block_types"], f"one for each of {len(widths)} levels")
    if widths[0] % 2:
        raise unsupported("block_out_channels", widths, "an even first width, of sines and cosines")
    if full["time_embedding_dim"] not in (None, 4 * widths[0]):
        raise unsupported("time_embedding_dim", full["time_embedding_dim"], f"4 x the first width, {4 * widths[0]}")
    concat = max(0, full["in_channels"] - full["out_channels"])
    vector, layers = _vector(full)
    own = _text_sizes(full) if kind(theirs) == TEXT else _plain_sizes(full)
    return UNetConfig(
        in_channels=full["in_channels"] - concat,
        out_channels=full["out_channels"],
        concat_channels=concat,
        channels=widths,
        blocks=blocks_of(full, len(widths), max(own["attention"])),
        groups=full["norm_num_groups"],
        scale_shift=full["resnet_time_scale_shift"] == "scale_shift",
        dropout=full["dropout"],
        clock_shift=float(full["freq_shift"]),
        norm_eps=full["norm_eps"],
        downsample_padding=full["downsample_padding"],
        vector_dim=vector,
        vector_layers=layers,
        **own,
    )


def _plain_sizes(full: Json) -> dict[str, Any]:
    grouped = full["resnet_time_scale_shift"] == "default" or full["attn_norm_num_groups"] is not None
    if full["add_attention"] and (not grouped or full["attn_norm_num_groups"] not in (None, full["norm_num_groups"])):
        allowed = f"the groups of the other norms, {full['norm_num_groups']}"
        raise unsupported("attn_norm_num_groups", full["attn_norm_num_groups"], allowed)
    attention = _depths(full, "DownBlock2D", "AttnDownBlock2D", (1,) * len(full["block_out_channels"]))
    dim = full["attention_head_dim"]
    if isinstance(dim, tuple):
        raise unsupported("attention_head_dim", dim, "null and one number")
    return {
        "attention": attention, "middle": int(full["add_attention"]), "heads": 1 if dim is None else 4,
        "head_dim": dim or 0,
    }  # fmt: skip


def _text_sizes(full: Json) -> dict[str, Any]:
    levels = len(full["block_out_channels"])
    depth = full["transformer_layers_per_block"]
    depths = depth if isinstance(depth, tuple) else (depth,) * levels
    if len(depths) != levels:
        raise unsupported("transformer_layers_per_block", depth, f"one number, or one for each of {levels} levels")
    guidance = full["time_cond_proj_dim"] or 0
    if not isinstance(guidance, int) or guidance % 2 or not 0 <= guidance <= MOST:
        raise unsupported("time_cond_proj_dim", guidance, "null or an even width, of sines and cosines")
    return {
        "attention": _depths(full, "DownBlock2D", "CrossAttnDownBlock2D", depths), "middle": depths[-1],
        "guidance_dim": guidance,
        "tokens_dim": same_for_all(full["cross_attention_dim"], levels, "cross_attention_dim"), **_heads(full),
    }  # fmt: skip


def _heads(full: Json) -> dict[str, int]:
    """Their `attention_head_dim` counts heads here: an old mistake of the format, kept for its many files."""
    heads, widths = full["attention_head_dim"], full["block_out_channels"]
    each = heads if isinstance(heads, tuple) else (heads,) * len(widths)
    if len(each) != len(widths) or None in each:
        raise unsupported("attention_head_dim", heads, f"a number of heads, or one for each of {len(widths)} levels")
    if len(set(each)) == 1:
        return {"heads": each[0]}
    dims = {w // n if w % n == 0 else 0 for w, n in zip(widths, each, strict=True)}
    if len(dims) > 1 or 0 in dims:
        raise unsupported("attention_head_dim", heads, "one number of heads, or one width of a head, for all levels")
    return {"head_dim": dims.pop()}


def _depths(full: Json, plain: str, attending: str, depths: tuple[int, ...]) -> tuple[int, ...]:
    down, up = full["down_block_types"], full["up_block_types"]
    strange = [name for name in down if name not in (plain, attending)]
    if strange:
        raise unsupported("down_block_types", strange[0], f"{plain} and {attending}")
    if up != tuple(name.replace("Down", "Up") for name in reversed(down)):
        raise unsupported("up_block_types", up, f"the mirror image of down_block_types, {down}")
    return tuple(depth if name == attending else 0 for name, depth in zip(down, depths, strict=True))


def _vector(full: Json) -> tuple[int, int]:
    """Width and layers of the `vector` port."""
    ways = [full["num_class_embeds"], full["class_embed_type"], full.get("addition_embed_type")]
    if sum(way is not None for way in ways) > 1:
        raise FileProblem("config.json asks for two embeddings beside the time's; this net has one `vector` port.")
    if not any(way is not None for way in ways):
        return 0, 2
    key = "projection_class_embeddings_input_dim" if full["num_class_embeds"] is None else "num_class_embeds"
    if type(full[key]) is not int or not 1 <= full[key] <= MOST:
        raise unsupported(key, full[key], "whole numbers from 1 on")
    return full[key], 1 if key == "num_class_embeds" else 2


def config_to_diffusers(config: UNetConfig) -> dict[str, Any]:
    """A `config.json` for our sizes. Raises `UsageError` for what neither class of diffusers computes."""
    c = config
    if not c.tokens_dim and c.guidance_dim:
        raise _inexpressible("a guidance port without tokens")
    if not c.tokens_dim and c.vector_dim and c.vector_layers != 1:
        raise _inexpressible(f"vector_layers = {c.vector_layers} without tokens")
    if min(c.channels) < c.groups:
        raise _inexpressible(f"{c.groups} groups for a level of {min(c.channels)} channels")
    down, up = _block_types(c)
    common_part = {
        "act_fn": "silu", "block_out_channels": list(c.channels), "down_block_types": down, "up_block_types": up,
        "downsample_padding": c.downsample_padding, "dropout": c.dropout, "flip_sin_to_cos": True,
        "freq_shift": int(c.clock_shift), "in_channels": c.in_channels + c.concat_channels, "norm_eps": c.norm_eps,
        "layers_per_block": c.blocks, "norm_num_groups": c.groups, "out_channels": c.out_channels,
        "resnet_time_scale_shift": "scale_shift" if c.scale_shift else "default",
        "num_class_embeds": c.vector_dim if c.vector_dim and c.vector_layers == 1 else None,
    }  # fmt: skip
    return common_part | (_text_part(c) if c.tokens_dim else _plain_part(c))


def _block_types(c: UNetConfig) -> tuple[list[str], list[str]]:
    attending = "CrossAttnDownBlock2D" if c.tokens_dim else "AttnDownBlock2D"
    down = [attending if depth else "DownBlock2D" for depth in c.attention]
    return down, [name.replace("Down", "Up") for name in reversed(down)]


def _plain_part(c: UNetConfig) -> dict[str, Any]:
    heads = _used_heads(c)
    dims = {width // many for width, many in heads.items()}
    dim: int | None = c.head_dim or None
    if not c.head_dim and c.heads != 1:
        if len(dims) > 1:
            raise _inexpressible(f"heads = {c.heads} at levels of width {sorted(heads)}, so heads of several widths")
        dim = dims.pop() if dims else None
    return {
        "_class_name": PLAIN, "add_attention": c.middle > 0, "attention_head_dim": dim,
        "attn_norm_num_groups": c.groups if c.middle else None, "mid_block_type": "UNetMidBlock2D",
    }  # fmt: skip


def _text_part(c: UNetConfig) -> dict[str, Any]:
    if any(c.reads):
        raise _inexpressible(f"reads = {c.reads} (there: transformer blocks or none)")
    if not c.middle or c.ff_mult != 4.0:
        raise _inexpressible(f"middle = {c.middle} and ff_mult = {c.ff_mult} (there: at least 1, and 4)")
    if c.attention[-1] not in (0, c.middle):
        raise _inexpressible(f"middle = {c.middle} below a level of depth {c.attention[-1]}")
    depths = [depth or 1 for depth in (*c.attention[:-1], c.middle)]
    heads = [max(1, w // c.head_dim) for w in c.channels] if c.head_dim else c.heads
    projected = bool(c.vector_dim) and c.vector_layers == 2
    return {
        "_class_name": TEXT, "attention_head_dim": heads, "cross_attention_dim": c.tokens_dim,
        "mid_block_type": "UNetMidBlock2DCrossAttn", "transformer_layers_per_block": depths,
        "use_linear_projection": True, "class_embed_type": "projection" if projected else None,
        "projection_class_embeddings_input_dim": c.vector_dim if projected else None,
        "time_cond_proj_dim": c.guidance_dim or None,
    }  # fmt: skip


def _inexpressible(what: str) -> UsageError:
    return UsageError(
        f"This U-Net has {what}, which no U-Net of diffusers computes. Save it in this library's own format instead."
    )


def _used_heads(c: UNetConfig) -> dict[int, int]:
    """Heads by width, of the levels that attend."""
    widths = [w for w, depth in zip(c.channels, c.attention, strict=True) if depth]
    return {w: c.heads_at(w) for w in (*widths, *([c.channels[-1]] if c.middle else []))}


def same_net(a: UNetConfig, b: UNetConfig) -> bool:
    """Whether two configurations compute the same, but for the unit of the clock and dropout."""
    return _computed(a) == _computed(b)


def _computed(c: UNetConfig) -> Hashable:
    plain = replace(
        c, clock_scale=1.0, dropout=0.0, in_channels=c.in_channels + c.concat_channels, concat_channels=0, heads=0,
        head_dim=0, vector_layers=c.vector_layers if c.vector_dim else 0,
    )  # fmt: skip
    if not c.tokens_dim:  # without tokens, any depth is one attention
        plain = replace(plain, attention=tuple(min(d, 1) for d in c.attention), middle=min(c.middle, 1), ff_mult=0.0)
    return plain, tuple(_used_heads(c).items())
