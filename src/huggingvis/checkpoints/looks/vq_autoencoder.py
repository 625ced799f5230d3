"""An autoencoder with a codebook by itself: diffusers' `VQModel`, a folder or its weights alone."""

from __future__ import annotations

from typing import final

from huggingvis.checkpoints.kinds import Kind, Subject, Told
from huggingvis.checkpoints.looks.nets import weights_in

_CLASS, _CODEBOOK, _DECODER = "VQModel", "quantize.embedding.weight", "decoder.up_blocks.0.resnets.0.conv1.weight"


@final
class _VQAutoencoder(Kind):
    name, title, rank = "vq-autoencoder", "an autoencoder with a codebook (VQ) by itself", 85

    def found(self, subject: Subject) -> bool:
        if subject.is_folder:
            return subject.settings.get("_class_name") == _CLASS
        codebook = subject.tensors.get(_CODEBOOK)
        return codebook is not None and len(codebook.shape) == 2 and _DECODER in subject.tensors

    def tell(self, subject: Subject) -> Told:
        if not subject.is_folder:
            codes, dim = subject.tensors[_CODEBOOK].shape
            advice = "Put it back beside its `config.json` and name the folder."
            return Told(
                sentences=(f"It has {codes} codes of {dim} numbers.", advice), facts={"codes": codes, "dim": dim}
            )
        said = subject.settings
        codes, dim = said.get("num_vq_embeddings", 256), said.get("vq_embed_dim") or said.get("latent_channels", 3)
        sentence = f"It has {codes} codes of {dim} numbers, in a diffusers folder of the class {_CLASS}."
        return Told(sentences=(sentence,), facts={"codes": codes, "dim": dim, "weights": weights_in(subject)})


KIND = _VQAutoencoder()
