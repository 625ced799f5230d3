"""A tiny decoder for previews (TAESD and its kin)."""

from __future__ import annotations

from typing import final

from huggingvis.checkpoints.kinds import Kind, Subject, Told
from huggingvis.checkpoints.single_file_family import foreign

_AS_PUBLISHED = ("1.weight", "3.conv.0.weight", "3.conv.4.bias", "6.conv.0.weight")
_POOL = "3.pool.1.weight"
"""Of TAEF2, whose latents no model here has."""


@final
class _TinyVAE(Kind):
    name, title, rank = "tiny-vae", "a tiny preview decoder", 130

    def found(self, subject: Subject) -> bool:
        if subject.is_folder:
            return str(subject.settings.get("_class_name")) == "AutoencoderTiny"
        names = subject.tensors
        published = all(name in names for name in _AS_PUBLISHED) and _POOL not in names
        return published or subject.foreign("a tiny preview decoder (TAESD)")

    def tell(self, subject: Subject) -> Told:
        known = foreign(subject.tensors, whole=False)
        first = subject.tensors.get("1.weight")
        if known is None and first is not None and len(first.shape) == 4:
            shows = f"It shows latents of {first.shape[1]} channels while they become pictures"
            return Told(sentences=(f"{shows}: name it by --preview-decoder.",), facts={"latents": first.shape[1]})
        return Told(known.what, sentences=(f"{known.advice}.",)) if known else Told()


KIND = _TinyVAE()
