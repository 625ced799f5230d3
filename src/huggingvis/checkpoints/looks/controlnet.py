"""A ControlNet, whole, in diffusers' or its authors' names; also those cut down by LoRA, which are not read here."""

from __future__ import annotations

from typing import final

from huggingvis.checkpoints.kinds import Kind, Subject, Told
from huggingvis.checkpoints.looks.nets import base_by_shapes, refusal, unet_base, weights_in
from huggingvis.core.errors import FileProblem


@final
class _ControlNet(Kind):
    name, title, rank, adapter = "controlnet", "a ControlNet", 40, True

    def found(self, subject: Subject) -> bool:
        if subject.is_folder:
            return "ControlNet" in str(subject.settings.get("_class_name"))
        return subject.foreign("a ControlNet") or subject.foreign("a Control-LoRA")

    def tell(self, subject: Subject) -> Told:
        if subject.is_folder:
            return self._of_folder(subject)
        from huggingvis.checkpoints.diffusers_controlnet import single_file  # it needs torch

        try:
            file = single_file(subject.path)
        except FileProblem as error:
            why = refusal(error, subject.path)
            return Told(refused=f"It {why}", sentences=(f"It {why}",), base=base_by_shapes(subject.tensors))
        first = file.prefix + ("input_hint_block.0.weight" if file.ldm else "controlnet_cond_embedding.conv_in.weight")
        shape = subject.tensors[first].shape
        hint = shape[1] if len(shape) == 4 else None
        layout = "its authors' names" if file.ldm else "diffusers' names"
        sentence = f"It reads pictures of {hint} channels and is in {layout}."
        return Told(base=base_by_shapes(subject.tensors), sentences=(sentence,), facts={"hint channels": hint})

    def _of_folder(self, subject: Subject) -> Told:
        said = subject.settings
        facts = {"hint channels": said.get("conditioning_channels", 3), "weights": weights_in(subject)}
        if said.get("_class_name") != "ControlNetModel":
            why = (
                f"It is a {said.get('_class_name')}, which is not read here: use a plain ControlNet for the same base."
            )
            return Told(base=unet_base(said), sentences=(why,), facts=facts, refused=why)
        sentence = f"It reads pictures of {facts['hint channels']} channels and is a diffusers folder."
        return Told(base=unet_base(said), sentences=(sentence,), facts=facts)


KIND = _ControlNet()
