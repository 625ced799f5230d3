"""Our `UNet` and the names it has in single-file checkpoints: weights, both ways.

The layout of Rombach et al. 2022 (github.com/CompVis/latent-diffusion, `openaimodel.py`), which Stable Diffusion 1, 2
and XL kept: input and output blocks counted through all levels, each a residual block `.0`, its attention `.1`, and in
the last of a level the resampling. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from huggingvis.checkpoints.diffusers_common import ATTENTION, projection, rename
from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.checkpoints.transforms import Transpose
from huggingvis.nets.unet import UNetConfig

PREFIX = "model.diffusion_model."
"""Before the net's names in a whole checkpoint; files of the net alone have none."""

RESBLOCK = (("norm1", "in_layers.0"), ("conv1", "in_layers.2"), ("emb", "emb_layers.1"), ("norm2", "out_layers.0"),
            ("conv2", "out_layers.3"), ("skip", "skip_connection"))  # fmt: skip
_BLOCK = (
    *((f"norm{n}", f"norm{n}") for n in (1, 2, 3)), ("ff.fc1", "ff.net.0.proj"), ("ff.fc2", "ff.net.2"),
    *((f"attn{n}.{ours}", f"attn{n}.{theirs}") for n in (1, 2) for ours, theirs in ATTENTION),
)  # fmt: skip


def keymap(config: UNetConfig, *, linear: bool, prefix: str = PREFIX) -> KeyMap:
    """Names of a net with text tokens. `linear`: its transformers' projections are not 1x1 convolutions there."""
    ends = [("time.fc1", "time_embed.0"), ("time.fc2", "time_embed.2"), ("conv_in", "input_blocks.0.0"),
            ("norm_out", "out.0"), ("conv_out", "out.2")]  # fmt: skip
    rules = [Rule(f"{ours}.{{leaf:word}}", f"{prefix}{theirs}.{{leaf:word}}") for ours, theirs in ends]
    if config.vector_dim and config.vector_layers == 1:
        rules.append(Rule("vector.weight", f"{prefix}label_emb.weight", Transpose()))
    elif config.vector_dim:
        rules += rename("vector", f"{prefix}label_emb", (("0", "0.0"), ("2", "0.2")))
    rules += rename("middle.blocks.0", f"{prefix}middle_block.0", RESBLOCK)
    rules += rename("middle.blocks.1", f"{prefix}middle_block.2", RESBLOCK)
    rules += _transformer("middle.attention.0", f"{prefix}middle_block.1", linear)
    last, number = len(config.channels) - 1, 1
    for level, depth in enumerate(config.attention):
        for block in range(config.blocks):
            rules += _pair(f"down.{level}", block, f"{prefix}input_blocks.{number}", depth, linear)
            number += 1
        if level < last:
            rules += rename(f"down.{level}", f"{prefix}input_blocks.{number}", (("resample.conv", "0.op"),))
            number += 1
    for level, depth in enumerate(reversed(config.attention)):
        for block in range(config.blocks + 1):
            there = f"{prefix}output_blocks.{level * (config.blocks + 1) + block}"
            rules += _pair(f"up.{level}", block, there, depth, linear)
        if level < last:
            rules += rename(f"up.{level}", there, (("resample.conv", f"{2 if depth else 1}.conv"),))
    return KeyMap(rules)


def _pair(level: str, block: int, there: str, depth: int, linear: bool) -> list[Rule]:
    """A residual block, and the attention after it where there is some."""
    rules = rename(f"{level}.blocks.{block}", f"{there}.0", RESBLOCK)
    return rules + (_transformer(f"{level}.attention.{block}", f"{there}.1", linear) if depth else [])


def _transformer(ours: str, theirs: str, linear: bool) -> list[Rule]:
    return [
        *rename(ours, theirs, (("norm", "norm"),)),
        *projection(f"{ours}.proj_in", f"{theirs}.proj_in", not linear),
        *rename(f"{ours}.blocks.{{k}}", f"{theirs}.transformer_blocks.{{k}}", _BLOCK),
        *projection(f"{ours}.proj_out", f"{theirs}.proj_out", not linear),
    ]
