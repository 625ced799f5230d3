"""A T2I-Adapter, in diffusers' or its authors' names."""

from __future__ import annotations

from typing import final

from huggingvis.checkpoints.kinds import Kind, Subject


@final
class _T2IAdapter(Kind):
    name, title, rank, adapter = "t2i-adapter", "a T2I-Adapter", 60, True

    def found(self, subject: Subject) -> bool:
        if subject.is_folder:
            return subject.settings.get("_class_name") == "T2IAdapter"
        return subject.foreign("a T2I-Adapter")


KIND = _T2IAdapter()
