"""A textual inversion, in every form of `embedding_formats`: vectors for one or two text towers."""

from __future__ import annotations

from typing import final

from huggingvis.checkpoints.embedding_names import FILES, is_table
from huggingvis.checkpoints.kinds import Kind, Subject


@final
class _Embedding(Kind):
    name, title, rank, adapter = "embedding", "a textual inversion", 20, True

    def found(self, subject: Subject) -> bool:
        if subject.is_folder:
            return any(subject.has(f"{name}{suffix}") for name in FILES for suffix in (".safetensors", ".bin"))
        if subject.is_picture:
            from huggingvis.checkpoints.embedding_pictures import carries

            return carries(subject.path)
        return is_table(subject.tensors)


KIND = _Embedding()
