"""What no other kind claims: weights of a known family that is not read here, or of none."""

from __future__ import annotations

from typing import final

from huggingvis.checkpoints.kinds import Kind, Subject, Told
from huggingvis.checkpoints.report import listed
from huggingvis.checkpoints.single_file_family import foreign
from huggingvis.checkpoints.training_notes import plain


@final
class _Other(Kind):
    name, title, rank = "other", "a file of weights of a kind that is not known here", 1000

    def found(self, subject: Subject) -> bool:
        return True

    def tell(self, subject: Subject) -> Told:
        known = foreign(subject.tensors, whole=False)
        if known is not None:
            return Told(known.what, sentences=(f"{known.advice}.",), refused=f"{known.advice}.")
        some = plain(listed(subject.tensors, 3))
        return Told(sentences=(f"Its tensors are {some}.",) if some else ("It holds no tensors.",))


KIND = _Other()
