"""A T2I-Adapter, in diffusers' or its authors' names."""

from __future__ import annotations

from typing import final

from huggingvis.checkpoints.bases import Base, base_of
from huggingvis.checkpoints.kinds import Kind, Subject, Told
from huggingvis.checkpoints.looks.nets import refusal, weights_in
from huggingvis.core.errors import FileProblem


@final
class _T2IAdapter(Kind):
    name, title, rank, adapter = "t2i-adapter", "a T2I-Adapter", 60, True

    def found(self, subject: Subject) -> bool:
        if subject.is_folder:
            return subject.settings.get("_class_name") == "T2IAdapter"
        return subject.foreign("a T2I-Adapter")

    def tell(self, subject: Subject) -> Told:
        from huggingvis.checkpoints.t2i_adapter_files import config_from_diffusers, sizes_of  # they need torch

        try:
            config = config_from_diffusers(subject.settings) if subject.is_folder else sizes_of(subject.path)
        except FileProblem as error:
            why = refusal(error, subject.path)
            return Told(refused=f"It {why}", sentences=(f"It {why}",))
        base = base_of(2048) if config.fold == 16 else Base("Stable Diffusion 1 or 2", (768, 1024))
        kind = "light" if config.light else "full"
        facts = {"picture channels": config.in_channels, "widths": list(config.channels), "type": kind}
        facts |= {"weights": weights_in(subject)} if subject.is_folder else {}
        sentence = f"It is of the {kind} type and reads pictures of {config.in_channels} channels."
        return Told(base=base, sentences=(sentence,), facts=facts)


KIND = _T2IAdapter()
