"""A small public autoencoder of CIFAR-10 pictures: 128 numbers for 3,072.

Binds `cifar10_ae_128.safetensors`, converted from the checkpoint of tutorial 9 in github.com/phlippe/saved_models
(MIT), 469 thousand numbers, trained on pictures in [-1, 1]. Book: chapter 1, "Real weights".
"""

from __future__ import annotations

from pathlib import Path

import torch

from huggingvis.checkpoints.inspect import Family
from huggingvis.checkpoints.io import assign, load
from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.core.hollow import hollow
from huggingvis.core.system import System
from huggingvis.nets.strided_autoencoder import StridedConfig, StridedDecoder, StridedEncoder
from huggingvis.objectives.autoencoder import Autoencoder, SquaredError
from huggingvis.systems.fixed_size import FixedSize

CONFIG = StridedConfig()
SHAPE = (CONFIG.channels, CONFIG.size, CONFIG.size)

FAMILY = Family(
    "cifar10_autoencoder",
    {
        "encoder.net.0.weight": (32, 3, 3, 3),
        "encoder.net.11.weight": (128, 1024),
        "decoder.linear.0.weight": (1024, 128),
    },
    use="`huggingvis.load(FILE)` encodes and decodes by it",
)


def encoder_map() -> KeyMap:
    """Names of the encoder inside the file."""
    return KeyMap(
        [
            *(Rule(f"layers.{i}.{{leaf:word}}", f"encoder.net.{i}.{{leaf:word}}") for i in range(0, 10, 2)),
            Rule("out.{leaf:word}", "encoder.net.11.{leaf:word}"),
        ]
    )


def decoder_map() -> KeyMap:
    """Names of the decoder inside the file."""
    return KeyMap(
        [
            Rule("first.0.{leaf:word}", "decoder.linear.0.{leaf:word}"),
            *(Rule(f"layers.{i}.{{leaf:word}}", f"decoder.net.{i}.{{leaf:word}}") for i in range(0, 8, 2)),
            Rule("out.0.{leaf:word}", "decoder.net.8.{leaf:word}"),
        ]
    )


def autoencoder(path: Path | str, *, dtype: torch.dtype = torch.float32) -> Autoencoder:
    """The model itself, running in `dtype`; it has seen no codes yet. Raises `FileProblem` for another file."""
    with hollow():
        encoder, decoder = StridedEncoder(CONFIG), StridedDecoder(CONFIG)
    tensors = load(path, dtype=dtype, check=True)
    ours, left = encoder_map().take(tensors)
    assign(encoder, ours)
    assign(decoder, decoder_map().to_ours(left))
    return Autoencoder(encoder, decoder, SquaredError(), CONFIG.latent_dim).eval().requires_grad_(False)


def bind(path: Path | str, device: torch.device | None = None, *, dtype: torch.dtype = torch.float32) -> System:
    """The system from its weights file. Raises `FileProblem` for another file.

    It encodes and decodes. Drawing raises the model's own `UsageError` until it has been shown codes, for the file
    tells no law of them: `system.parts["autoencoder"].observe_codes(...)`.
    """
    model = autoencoder(path, dtype=dtype).to(device or torch.device("cpu"))
    described = FixedSize("cifar10-autoencoder", "cifar10_autoencoder", SHAPE, licence="MIT")
    return described.system(model, {"autoencoder": model}, device=device)
