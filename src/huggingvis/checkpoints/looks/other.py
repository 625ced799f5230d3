"""What no other kind claims: weights of a family that this library binds, of another known one, or of none."""

from __future__ import annotations

from typing import final

from huggingvis.checkpoints.kinds import Kind, Subject


@final
class _Other(Kind):
    name, title, rank = "other", "weights of another kind", 1000

    def found(self, subject: Subject) -> bool:
        return True


KIND = _Other()
