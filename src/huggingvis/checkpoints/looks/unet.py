"""A U-Net by itself: a part of a diffusers folder, its weights alone, or a file in the names of checkpoints."""

from __future__ import annotations

from typing import final

from huggingvis.checkpoints.kinds import Kind, Subject
from huggingvis.checkpoints.single_file_family import unet_prefix

_SIGNS = ("time_embedding.linear_1.weight", "conv_in.weight", "down_blocks.0.resnets.0.conv1.weight")
"""Of diffusers' U-Nets."""


@final
class _UNet(Kind):
    name, title, rank = "unet", "a U-Net by itself", 80

    def found(self, subject: Subject) -> bool:
        if subject.is_folder:
            return str(subject.settings.get("_class_name")).startswith("UNet")
        names = subject.tensors
        return unet_prefix(names) is not None or any(
            all(prefix + sign in names for sign in _SIGNS) for prefix in ("", "unet.")
        )


KIND = _UNet()
