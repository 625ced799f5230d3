"""A text tower by itself: CLIP, OpenCLIP, T5 or BERT."""

from __future__ import annotations

from typing import Any, final

from huggingvis.checkpoints.kinds import Kind, Subject, Told
from huggingvis.checkpoints.looks.nets import weights_in

_TOKENS = ("token_embedding.weight", "shared.weight", "word_embeddings.weight", "embed_tokens.weight")
_KNOWN = {
    (49408, 768): "CLIP ViT-L/14, of Stable Diffusion 1 and the first of XL",
    (49408, 1024): "OpenCLIP ViT-H/14, of Stable Diffusion 2",
    (49408, 1280): "OpenCLIP ViT-bigG/14, the second of Stable Diffusion XL",
    (32128, 4096): "T5-XXL, of PixArt and others",
    (30522, 1280): "the BERT of latent diffusion",
}
"""Token ids and width -> the tower."""


@final
class _TextEncoder(Kind):
    name, title, rank = "text-encoder", "a text encoder by itself", 110

    def found(self, subject: Subject) -> bool:
        if subject.is_folder:
            named = subject.settings.get("architectures") or [subject.settings.get("_class_name")]
            return any(sign in str(named) for sign in ("CLIPText", "T5", "Bert"))
        return subject.foreign("a text tower")

    def tell(self, subject: Subject) -> Told:
        said = subject.settings
        table = next(
            (x.shape for name, x in subject.tensors.items() if name.endswith(_TOKENS) and len(x.shape) == 2), ()
        )
        told = [said.get("vocab_size"), said.get("hidden_size", said.get("d_model"))] if subject.is_folder else table
        words, width = told if len(told) == 2 else (None, None)
        known = _KNOWN.get((words, width)) if type(words) is int and type(width) is int else None
        sentence = f"It is {known}." if known else f"It reads {words} token ids into vectors {width} wide."
        facts: dict[str, Any] = {"width": width, "vocabulary": words, "architectures": said.get("architectures")}
        if subject.is_folder:
            facts["weights"] = weights_in(subject)
        return Told(sentences=(sentence,), facts=facts)


KIND = _TextEncoder()
