"""An image tower by itself, which IP-Adapters read pictures by."""

from __future__ import annotations

from typing import final

from huggingvis.checkpoints.kinds import Kind, Subject, any_name


@final
class _ImageEncoder(Kind):
    name, title, rank = "image-encoder", "an image encoder by itself", 100

    def found(self, subject: Subject) -> bool:
        if subject.is_folder:
            return "CLIPVision" in str(subject.settings.get("architectures"))
        vision = any_name(
            r"^(vision_model\.encoder|visual\.transformer\.resblocks|vision_model\.transformer)\.", subject.tensors
        )
        return vision and not any_name(r"^(text_model|transformer)\.", subject.tensors)


KIND = _ImageEncoder()
