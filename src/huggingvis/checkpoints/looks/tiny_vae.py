"""A tiny decoder for previews (TAESD and its kin)."""

from __future__ import annotations

from typing import final

from huggingvis.checkpoints.kinds import Kind, Subject
from huggingvis.checkpoints.report import Told
from huggingvis.checkpoints.single_file_family import foreign


@final
class _TinyVAE(Kind):
    name, title, rank = "tiny-vae", "a tiny preview decoder", 130

    def found(self, subject: Subject) -> bool:
        if subject.is_folder:
            return str(subject.settings.get("_class_name")) == "AutoencoderTiny"
        return subject.foreign("a tiny preview decoder (TAESD)")

    def tell(self, subject: Subject) -> Told:
        known = foreign(subject.tensors, whole=False)
        return Told(known.what, sentences=(f"{known.advice}.",)) if known else Told()


KIND = _TinyVAE()
