"""TAEF2: the tiny autoencoder for FLUX.2's latent space, 32 channels at 1/8 of the height and width.

Binds `taef2_encoder.pth` and `taef2_decoder.pth` of github.com/madebyollin/taesd (MIT), 1.34 million numbers each,
stored in float16. Book: chapter 5, "A space worth diffusing in".
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from huggingvis.checkpoints.inspect import Family
from huggingvis.checkpoints.io import assign, load
from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.core.hollow import hollow
from huggingvis.nets.tiny_autoencoder import TinyAutoencoder, TinyAutoencoderConfig

CONFIG = TinyAutoencoderConfig(latent_channels=32, pooled=True)

FAMILY = Family(
    "taef2",
    {"0.weight": (64, 3, 3, 3), "11.pool.1.weight": (256,), "14.weight": (32, 64, 3, 3)},
    {"1.weight": (64, 32, 3, 3), "3.pool.1.weight": (256,), "19.weight": (3, 64, 3, 3)},
    use="`huggingvis.systems.taef2.bind(ENCODER, DECODER)` makes an autoencoder of both of its files",
    alone=False,
)


def encoder_map(config: TinyAutoencoderConfig) -> KeyMap:
    """The family's encoders number their layers in one list: stem, block, then per level a convolution and blocks."""
    per_level = config.blocks + 1
    rules = [Rule("stem.{leaf:word}", "0.{leaf:word}"), *_block("first", 1)]
    for level in range(config.levels):
        at = 2 + level * per_level
        rules.append(Rule(f"down.{level}.weight", f"{at}.weight"))
        for i in range(config.blocks):
            rules += _block(f"blocks.{level}.{i}", at + 1 + i)
    return KeyMap([*rules, Rule("out.{leaf:word}", f"{2 + config.levels * per_level}.{{leaf:word}}")])


def decoder_map(config: TinyAutoencoderConfig) -> KeyMap:
    """Decoders: squash, stem, ReLU, then per level blocks, enlargement and a convolution, then a block."""
    per_level = config.blocks + 2
    rules = [Rule("stem.{leaf:word}", "1.{leaf:word}")]
    for level in range(config.levels):
        at = 3 + level * per_level
        for i in range(config.blocks):
            rules += _block(f"blocks.{level}.{i}", at + i)
        rules.append(Rule(f"up.{level}.weight", f"{at + config.blocks + 1}.weight"))
    last = 3 + config.levels * per_level
    return KeyMap([*rules, *_block("last", last), Rule("out.{leaf:word}", f"{last + 1}.{{leaf:word}}")])


def _block(ours: str, theirs: int) -> list[Rule]:
    """A block's three convolutions sit at 0, 2, 4 of its list; its bottleneck, where it has one, at 0, 1, 3."""
    convs = [Rule(f"{ours}.conv{i + 1}.{{leaf:word}}", f"{theirs}.conv.{2 * i}.{{leaf:word}}") for i in range(3)]
    pool = [
        Rule(f"{ours}.pool.{name}.{{leaf:word}}", f"{theirs}.pool.{i}.{{leaf:word}}")
        for name, i in (("expand", 0), ("norm", 1), ("reduce", 3))
    ]
    return convs + pool


def bind(encoder: Path | str, decoder: Path | str, *, dtype: torch.dtype = torch.float32) -> TinyAutoencoder:
    """The autoencoder from its two files, running in `dtype`. Raises `FileProblem` for other files."""
    with hollow():
        net = TinyAutoencoder(CONFIG)
    halves: tuple[tuple[nn.Module, KeyMap, Path | str], ...] = (
        (net.encoder, encoder_map(CONFIG), encoder),
        (net.decoder, decoder_map(CONFIG), decoder),
    )
    for half, keymap, path in halves:
        assign(half, keymap.to_ours(load(path, dtype=dtype, check=True)))
    return net.eval().requires_grad_(False)
