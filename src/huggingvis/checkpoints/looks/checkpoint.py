"""A whole model in one file: a U-Net with an autoencoder or a text tower."""

from __future__ import annotations

from typing import final

from huggingvis.checkpoints.kinds import Kind, Subject, Told
from huggingvis.checkpoints.looks.single import of_single_file
from huggingvis.checkpoints.single_file_family import TOWERS, autoencoder_prefix, unet_prefix


@final
class _Checkpoint(Kind):
    name, title, rank = "checkpoint", "a checkpoint", 70

    def found(self, subject: Subject) -> bool:
        names = subject.tensors
        reads = any(row.root + row.inner + row.tokens in names for row in TOWERS)
        return unet_prefix(names) is not None and (reads or autoencoder_prefix(names) is not None)

    def tell(self, subject: Subject) -> Told:
        return of_single_file(subject)


KIND = _Checkpoint()
