"""A U-Net by itself: a part of a diffusers folder, its weights alone, or a file in the names of checkpoints."""

from __future__ import annotations

from typing import final

from huggingvis.checkpoints.kinds import Kind, Subject, Told
from huggingvis.checkpoints.looks.nets import VARIANTS, base_by_shapes, channels, unet_base, weights_in
from huggingvis.checkpoints.looks.single import of_single_file
from huggingvis.checkpoints.single_file_family import diffusers_unet_prefix, unet_prefix


@final
class _UNet(Kind):
    name, title, rank = "unet", "a U-Net by itself", 80

    def found(self, subject: Subject) -> bool:
        if subject.is_folder:
            return str(subject.settings.get("_class_name")).startswith("UNet")
        names = subject.tensors
        return unet_prefix(names) is not None or diffusers_unet_prefix(names) is not None

    def tell(self, subject: Subject) -> Told:
        if not subject.is_folder and unet_prefix(subject.tensors) is not None:
            return of_single_file(subject)
        base = unet_base(subject.settings) if subject.is_folder else base_by_shapes(subject.tensors)
        sees = channels(subject.settings, subject.tensors)
        facts = {"channels": sees} | ({"weights": weights_in(subject)} if subject.is_folder else {})
        named = f" of {base}" if base else ""
        where = "a diffusers folder" if subject.is_folder else "diffusers' names, without the config.json beside it"
        return Told(f"a U-Net{named}{VARIANTS.get(sees or 0, '')} by itself", base, (f"It is in {where}.",), facts)


KIND = _UNet()
