"""An autoencoder by itself: a part of a diffusers folder, its weights alone, or a file in the names of checkpoints."""

from __future__ import annotations

from typing import final

from huggingvis.checkpoints.kinds import Kind, Subject, Told
from huggingvis.checkpoints.looks.nets import weights_in
from huggingvis.checkpoints.looks.single import of_single_file
from huggingvis.checkpoints.single_file_family import autoencoder_prefix

_SIGNS = ("encoder.down_blocks.0.resnets.0.conv1.weight", "decoder.conv_in.weight")
"""Of diffusers' autoencoders."""


@final
class _VAE(Kind):
    name, title, rank = "vae", "an autoencoder (VAE) by itself", 90

    def found(self, subject: Subject) -> bool:
        if subject.is_folder:
            return str(subject.settings.get("_class_name")) == "AutoencoderKL"
        names = subject.tensors
        return autoencoder_prefix(names) is not None or any(
            all(prefix + sign in names for sign in _SIGNS) for prefix in ("", "vae.")
        )

    def tell(self, subject: Subject) -> Told:
        if subject.is_folder:
            said = subject.settings
            facts = {"latents": said.get("latent_channels"), "scale": said.get("scaling_factor"),
                     "weights": weights_in(subject)}  # fmt: skip
            told = f"Its latents have {facts['latents']} channels" if type(facts["latents"]) is int else "It is"
            return Told(
                sentences=(f"{told}, in a diffusers folder of the class {said.get('_class_name')}.",), facts=facts
            )
        if autoencoder_prefix(subject.tensors) is not None:
            return of_single_file(subject)
        fact = next((x for name, x in subject.tensors.items() if name.endswith("decoder.conv_in.weight")), None)
        latents = fact.shape[1] if fact is not None and len(fact.shape) == 4 else None
        sentence = f"It is in diffusers' names, and its latents have {latents} channels."
        return Told(sentences=(sentence,), facts={"latents": latents})


KIND = _VAE()
