"""A whole model as a folder of diffusers: `model_index.json` and a folder for each part."""

from __future__ import annotations

from typing import final

from huggingvis.checkpoints.kinds import INDEX, Kind, Subject


@final
class _Pipeline(Kind):
    name, title, rank = "pipeline", "a model as a diffusers folder", 10

    def found(self, subject: Subject) -> bool:
        return subject.has(INDEX)


KIND = _Pipeline()
