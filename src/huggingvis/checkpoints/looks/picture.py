"""A picture, which may carry how it was made; one that carries an embedding is an embedding."""

from __future__ import annotations

from typing import final

from huggingvis.checkpoints.kinds import Kind, Subject


@final
class _Picture(Kind):
    name, title, rank = "picture", "a picture", 30

    def found(self, subject: Subject) -> bool:
        return subject.is_picture


KIND = _Picture()
