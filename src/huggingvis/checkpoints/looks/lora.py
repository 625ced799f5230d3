"""A LoRA in any spelling: also LoHa, LoKr, DoRA and full differences, and the methods that are not computed here."""

from __future__ import annotations

from typing import final

from huggingvis.checkpoints.kinds import Kind, Subject
from huggingvis.checkpoints.lora_formats_names import PARTS, WEIGHTS, address, factor_of, stranger
from huggingvis.checkpoints.single_file_family import unet_prefix


@final
class _LoRA(Kind):
    name, title, rank, adapter = "lora", "a LoRA", 50, True

    def found(self, subject: Subject) -> bool:
        if subject.is_folder:
            folders = (subject.path, *(subject.path / part for part in PARTS))
            return any((folder / name).is_file() for folder in folders for name in WEIGHTS)
        if unet_prefix(subject.tensors) is not None:
            return False
        roles = {found[1] for name in subject.tensors if (found := factor_of(name)) is not None}
        return bool(roles - {"alpha"}) or any(stranger(name) for name in subject.tensors if _adapts(name))


def _adapts(name: str) -> bool:
    """Whether a name is of an adapter's tensor: as LoRAs' are, it begins with the part that is changed."""
    return address(name).part is not None or name.startswith(("lycoris_", "oft_", "base_model.model.", "lora_control"))


KIND = _LoRA()
