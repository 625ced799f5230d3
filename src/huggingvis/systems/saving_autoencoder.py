"""The autoencoder of a VQ-VAE written as a folder of diffusers, a `VQModel`, which gives the same pictures there.

Its prior stays behind: diffusers has no class that draws codes one after another. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from pathlib import Path

from huggingvis.checkpoints import diffusers_vq
from huggingvis.core.errors import UsageError
from huggingvis.objectives.vae import Bernoulli
from huggingvis.objectives.vq_vae import VQVAE


def save_vq(model: VQVAE, shape: tuple[int, int, int], folder: Path) -> Path:
    """Write the autoencoder of `model`, whose pictures are of `shape` [C, H, W]; returns the folder.

    Of what the decoder says of a value, the mean comes first and is what is written. Raises `UsageError` for a net of
    which diffusers has none like it.
    """
    if isinstance(model.likelihood, Bernoulli):
        raise UsageError(
            "The decoder of this VQ-VAE gives chances of white, and that of diffusers' VQModel the pictures "
            "themselves. Train one by `--autoencoder.likelihood logistic` or `gaussian`."
        )
    return diffusers_vq.to_diffusers(model.autoencoder, folder, shape)
