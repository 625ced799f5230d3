"""An autoencoder by itself: a part of a diffusers folder, its weights alone, or a file in the names of checkpoints."""

from __future__ import annotations

from typing import final

from huggingvis.checkpoints.kinds import Kind, Subject
from huggingvis.checkpoints.single_file_family import autoencoder_prefix

_SIGNS = ("encoder.down_blocks.0.resnets.0.conv1.weight", "decoder.conv_in.weight")
"""Of diffusers' autoencoders."""


@final
class _VAE(Kind):
    name, title, rank = "vae", "an autoencoder (VAE) by itself", 90

    def found(self, subject: Subject) -> bool:
        if subject.is_folder:
            return str(subject.settings.get("_class_name")) in ("AutoencoderKL", "VQModel")
        names = subject.tensors
        return autoencoder_prefix(names) is not None or any(
            all(prefix + sign in names for sign in _SIGNS) for prefix in ("", "vae.")
        )


KIND = _VAE()
