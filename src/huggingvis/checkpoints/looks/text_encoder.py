"""A text tower by itself: CLIP, OpenCLIP, T5 or BERT."""

from __future__ import annotations

from typing import final

from huggingvis.checkpoints.kinds import Kind, Subject


@final
class _TextEncoder(Kind):
    name, title, rank = "text-encoder", "a text encoder by itself", 110

    def found(self, subject: Subject) -> bool:
        if subject.is_folder:
            named = subject.settings.get("architectures") or [subject.settings.get("_class_name")]
            return any(sign in str(named) for sign in ("CLIPText", "T5", "Bert"))
        return subject.foreign("a text tower")


KIND = _TextEncoder()
