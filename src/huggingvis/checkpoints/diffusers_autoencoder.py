"""Our `AutoencoderKL` and diffusers' of the same name: configuration and weights, both ways.

The autoencoder of Rombach et al. 2022 (arXiv 2112.10752) as in Stable Diffusion 1, 2, XL, 3 and FLUX. What their file
says of latents' scale belongs to no net: `latent_statistics` gives it in the terms of `codecs.kl_latents`.
Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from huggingvis.checkpoints import diffusers_common as common
from huggingvis.checkpoints.assign import filled
from huggingvis.checkpoints.diffusers_common import MOST, Json, blocks_of, rename, settings, unsupported
from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.core.errors import UsageError, about
from huggingvis.nets.autoencoder_kl import AutoencoderConfig, AutoencoderKL

CLASS = "AutoencoderKL"

_ONLY: dict[str, tuple[Any, ...]] = {"_class_name": (CLASS,), "act_fn": ("silu", "swish")}
_DEFAULTS: dict[str, Any] = {
    "in_channels": 3, "out_channels": 3, "block_out_channels": (64,), "layers_per_block": 1, "latent_channels": 4,
    "norm_num_groups": 32, "scaling_factor": 0.18215, "shift_factor": None, "latents_mean": None, "latents_std": None,
    "use_quant_conv": True, "use_post_quant_conv": True, "mid_block_add_attention": True,
    "down_block_types": ("DownEncoderBlock2D",), "up_block_types": ("UpDecoderBlock2D",),
}  # fmt: skip


def config_from_diffusers(theirs: Json) -> AutoencoderConfig:
    """Our sizes from their `config.json`. Raises `FileProblem` naming the first setting that we cannot express."""
    full = settings(theirs, _DEFAULTS, _ONLY)
    for one, other in (("out_channels", "in_channels"), ("use_post_quant_conv", "use_quant_conv")):
        if full[one] != full[other]:
            raise unsupported(one, full[one], f"the same as {other}")
    return networks(full, quant_conv=full["use_quant_conv"])


def networks(full: Json, *, quant_conv: bool = True) -> AutoencoderConfig:
    """Sizes of encoder and decoder, which `VQModel` has too. Raises `FileProblem` for other blocks than ours."""
    widths = full["block_out_channels"]
    for side, block in (("down", "DownEncoderBlock2D"), ("up", "UpDecoderBlock2D")):
        if full[f"{side}_block_types"] != (block,) * len(widths):
            allowed = f"{block} at all {len(widths)} levels"
            raise unsupported(f"{side}_block_types", full[f"{side}_block_types"], allowed)
    return AutoencoderConfig(
        in_channels=full["in_channels"],
        latent_channels=full["latent_channels"],
        channels=widths,
        blocks=blocks_of(full, len(widths)),
        groups=full["norm_num_groups"],
        middle_attention=full["mid_block_add_attention"],
        quant_conv=quant_conv,
    )


def config_to_diffusers(config: AutoencoderConfig) -> dict[str, Any]:
    """A `config.json` for our sizes. Raises `UsageError` for what diffusers' class does not compute."""
    c = config
    if c.patch != 1 or c.extra != 1 or min(c.channels) < c.groups:
        raise UsageError(
            f"This autoencoder has patch = {c.patch}, extra = {c.extra} and {c.groups} groups on {min(c.channels)} "
            "channels, but diffusers' AutoencoderKL has patch 1, extra 1 and no more groups than channels. Save it in "
            "this library's own format instead."
        )
    levels = len(c.channels)
    return {
        "_class_name": CLASS, "act_fn": "silu", "in_channels": c.in_channels, "out_channels": c.in_channels,
        "latent_channels": c.latent_channels, "block_out_channels": list(c.channels), "layers_per_block": c.blocks,
        "down_block_types": ["DownEncoderBlock2D"] * levels, "up_block_types": ["UpDecoderBlock2D"] * levels,
        "norm_num_groups": c.groups, "mid_block_add_attention": c.middle_attention, "use_quant_conv": c.quant_conv,
        "use_post_quant_conv": c.quant_conv,
    }  # fmt: skip


def latent_statistics(theirs: Json) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) of each latent channel, so that (z - mean) / std is what their diffusion models work on."""
    full = settings(theirs, _DEFAULTS, {})
    scale, usual = full["scaling_factor"], {"latents_mean": full["shift_factor"] or 0.0, "latents_std": 1.0}
    rows = {key: full[key] or (value,) * full["latent_channels"] for key, value in usual.items()}
    for key, row in (*rows.items(), ("scaling_factor", (scale,))):
        many = 1 if key == "scaling_factor" else full["latent_channels"]
        numbers = isinstance(row, tuple) and all(type(x) in (int, float) and abs(x) <= MOST for x in row)
        if not numbers or len(row) != many or (key != "latents_mean" and min(row) <= 0):
            raise unsupported(key, full[key], "finite numbers, one for each channel of the latents, scales above 0")
    return rows["latents_mean"], tuple(s / scale for s in rows["latents_std"])


def keymap(config: AutoencoderConfig) -> KeyMap:
    """Names of the net: ours counts layers, theirs levels and blocks within them."""
    rules: list[Rule] = []
    for side in ("encoder", "decoder"):
        ends = (("conv_in", "conv_in"), ("norm_out", "conv_norm_out"), ("conv_out", "conv_out"))
        rules += rename(side, side, ends)
        for block, number in (("block1", 0), ("block2", 1)):
            rules += rename(f"{side}.middle.{block}", f"{side}.mid_block.resnets.{number}", common.RESBLOCK)
        if config.middle_attention:
            rules += rename(f"{side}.middle.attn", f"{side}.mid_block.attentions.0", common.MAP_ATTENTION)
    rules += _levels(config, "encoder", "down", config.blocks) + _levels(config, "decoder", "up", config.blocks + 1)
    if config.quant_conv:
        rules += [Rule(f"{name}.{{leaf:word}}", f"{name}.{{leaf:word}}") for name in ("quant_conv", "post_quant_conv")]
    return KeyMap(rules)


def _levels(config: AutoencoderConfig, side: str, way: str, blocks: int) -> list[Rule]:
    rules: list[Rule] = []
    number, last = 0, len(config.channels) - 1
    for level in range(last + 1):
        there = f"{side}.{way}_blocks.{level}"
        for block in range(blocks):
            rules += rename(f"{side}.levels.{number}", f"{there}.resnets.{block}", common.RESBLOCK)
            number += 1
        if level < last:
            rules += rename(f"{side}.levels.{number}", there, (("conv", f"{way}samplers.0.conv"),))
            number += 1
    return rules


def from_diffusers(
    folder: Path | str, *, dtype: torch.dtype | None = None, channels_last: bool = False
) -> AutoencoderKL:
    """The net in a diffusers folder, in evaluation mode; `dtype` None keeps the file's. Raises `FileProblem`.

    `channels_last`: its convolutions' weights are laid out so, as fast kernels want them.
    """
    with about(folder):
        config = config_from_diffusers(common.read_config(folder))
        tensors = common.read_weights(folder, dtype, channels_last=channels_last)
        return filled(lambda: AutoencoderKL(config), keymap(config).consume(tensors))


def to_diffusers(net: AutoencoderKL, folder: Path | str, theirs: Json | None = None) -> Path:
    """Write `net` as a folder that diffusers loads; returns it.

    `theirs`: a `config.json` to keep, with its scale of latents. Raises `UsageError` if it describes another net, or if
    diffusers has none like ours.
    """
    theirs = config_to_diffusers(net.config) if theirs is None else theirs
    if config_from_diffusers(theirs) != net.config:
        raise UsageError("The config.json given describes an autoencoder of other sizes than the one to be written.")
    return common.write_folder(folder, theirs, keymap(net.config).to_theirs(net.state_dict()))
