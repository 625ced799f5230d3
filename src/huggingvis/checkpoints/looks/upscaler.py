"""An upscaler of finished pictures (ESRGAN and its kin)."""

from __future__ import annotations

from typing import final

from huggingvis.checkpoints.kinds import Kind, Subject


@final
class _Upscaler(Kind):
    name, title, rank = "upscaler", "an upscaler", 140

    def found(self, subject: Subject) -> bool:
        return subject.foreign("an upscaler")


KIND = _Upscaler()
