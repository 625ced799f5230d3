"""A ControlNet, whole, in diffusers' or its authors' names; also those cut down by LoRA, which are not read here."""

from __future__ import annotations

from typing import final

from huggingvis.checkpoints.kinds import Kind, Subject


@final
class _ControlNet(Kind):
    name, title, rank, adapter = "controlnet", "a ControlNet", 40, True

    def found(self, subject: Subject) -> bool:
        if subject.is_folder:
            return "ControlNet" in str(subject.settings.get("_class_name"))
        return subject.foreign("a ControlNet") or subject.foreign("a Control-LoRA")


KIND = _ControlNet()
