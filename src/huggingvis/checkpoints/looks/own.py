"""What this library writes: model folders and run folders."""

from __future__ import annotations

from typing import final

from huggingvis.checkpoints.kinds import Kind, Subject

RECORD, RUN = "model.json", "config.toml"


@final
class _Own(Kind):
    name, title, rank = "own", "a model or run folder of this library", 5

    def found(self, subject: Subject) -> bool:
        return subject.has(RECORD) or subject.has(RUN)


KIND = _Own()
