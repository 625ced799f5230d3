"""An upscaler of finished pictures (ESRGAN and its kin)."""

from __future__ import annotations

from typing import final

from huggingvis.checkpoints.kinds import Kind, Subject, Told
from huggingvis.checkpoints.single_file_family import foreign


@final
class _Upscaler(Kind):
    name, title, rank = "upscaler", "an upscaler", 140

    def found(self, subject: Subject) -> bool:
        return subject.foreign("an upscaler")

    def tell(self, subject: Subject) -> Told:
        known = foreign(subject.tensors, whole=False)
        return Told(known.what, sentences=(f"{known.advice}.",)) if known else Told()


KIND = _Upscaler()
