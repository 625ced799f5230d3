"""A diffusion transformer by itself: PixArt's, or one of the families that are not read here yet."""

from __future__ import annotations

from typing import final

from huggingvis.checkpoints.kinds import Kind, Subject, Told
from huggingvis.checkpoints.single_file_family import foreign

FAMILIES = ("PixArt", "Flux", "Stable Diffusion 3", "AuraFlow", "a diffusion transformer")


@final
class _Transformer(Kind):
    name, title, rank = "transformer", "a diffusion transformer by itself", 120

    def found(self, subject: Subject) -> bool:
        if subject.is_folder:
            return str(subject.settings.get("_class_name")).endswith(("Transformer2DModel", "Transformer2D"))
        return any(subject.foreign(what) for what in FAMILIES)

    def tell(self, subject: Subject) -> Told:
        known = foreign(subject.tensors, whole=False)
        return Told(known.what, sentences=(f"{known.advice}.",)) if known else Told()


KIND = _Transformer()
