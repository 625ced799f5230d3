"""A tiny decoder for previews (TAESD and its kin)."""

from __future__ import annotations

from typing import final

from huggingvis.checkpoints.kinds import Kind, Subject


@final
class _TinyVAE(Kind):
    name, title, rank = "tiny-vae", "a tiny preview decoder", 130

    def found(self, subject: Subject) -> bool:
        if subject.is_folder:
            return str(subject.settings.get("_class_name")) == "AutoencoderTiny"
        return subject.foreign("a tiny preview decoder (TAESD)")


KIND = _TinyVAE()
