"""Our `AutoencoderKL` and the names it has in single-file checkpoints: weights, both ways.

The layout of Rombach et al. 2022 (github.com/CompVis/latent-diffusion, `diffusionmodules/model.py`). Levels count from
the finest on both sides, so the decoder runs through `up.3`, `up.2`, ... `up.0`; the middle's attention is of 1x1
convolutions, and of linear layers in a few later files. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from huggingvis.checkpoints.diffusers_common import projection, rename
from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.nets.autoencoder_kl import AutoencoderConfig

PREFIX = "first_stage_model."
"""Before the net's names in a whole checkpoint; files of the net alone have none."""

RESBLOCK = (("norm1", "norm1"), ("conv1", "conv1"), ("norm2", "norm2"), ("conv2", "conv2"), ("skip", "nin_shortcut"))
ATTENTION = (("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out", "proj_out"))


def keymap(config: AutoencoderConfig, *, linear: bool = False, prefix: str = PREFIX) -> KeyMap:
    """Names of the net. `linear`: the middle's attention is of linear layers there."""
    rules: list[Rule] = []
    for side in ("encoder", "decoder"):
        there = f"{prefix}{side}"
        rules += rename(side, there, (("conv_in", "conv_in"), ("norm_out", "norm_out"), ("conv_out", "conv_out")))
        rules += rename(f"{side}.middle.block1", f"{there}.mid.block_1", RESBLOCK)
        rules += rename(f"{side}.middle.block2", f"{there}.mid.block_2", RESBLOCK)
        if config.middle_attention:
            ours, theirs = f"{side}.middle.attn", f"{there}.mid.attn_1"
            rules += rename(ours, theirs, (("norm", "norm"),))
            for a, b in ATTENTION:
                rules += projection(f"{ours}.attn.{a}", f"{theirs}.{b}", not linear)
    levels = list(range(len(config.channels)))
    rules += _levels("encoder", f"{prefix}encoder.down", levels, config.blocks, "downsample")
    rules += _levels("decoder", f"{prefix}decoder.up", levels[::-1], config.blocks + config.extra, "upsample")
    if config.quant_conv:
        rules += [Rule(f"{q}.{{leaf:word}}", f"{prefix}{q}.{{leaf:word}}") for q in ("quant_conv", "post_quant_conv")]
    return KeyMap(rules)


def _levels(side: str, there: str, levels: list[int], blocks: int, resample: str) -> list[Rule]:
    """Ours counts layers through all levels; `levels` is theirs in the order they are computed."""
    rules: list[Rule] = []
    number = 0
    for level in levels:
        for block in range(blocks):
            rules += rename(f"{side}.levels.{number}", f"{there}.{level}.block.{block}", RESBLOCK)
            number += 1
        if level != levels[-1]:
            rules += rename(f"{side}.levels.{number}", f"{there}.{level}", (("conv", f"{resample}.conv"),))
            number += 1
    return rules
