"""The safety checker of Stable Diffusion, which looks at finished pictures."""

from __future__ import annotations

from typing import final

from huggingvis.checkpoints.kinds import Kind, Subject, Told


@final
class _SafetyChecker(Kind):
    name, title, rank = "safety-checker", "a safety checker", 95

    def found(self, subject: Subject) -> bool:
        if subject.is_folder:
            return "StableDiffusionSafetyChecker" in str(subject.settings.get("architectures"))
        return "concept_embeds" in subject.tensors

    def tell(self, subject: Subject) -> Told:
        return Told(sentences=("It looks at finished pictures: give its folder to --safety-checker.",))


KIND = _SafetyChecker()
