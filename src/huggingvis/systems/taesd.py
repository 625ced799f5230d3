"""TAESD: decoders of about a million numbers that show latents of Stable Diffusion at once.

Bohan 2023, github.com/madebyollin/taesd (MIT): `taesd_decoder`, `taesdxl_decoder`, `taesd3_decoder`, `taef1_decoder`
as .safetensors or .pth, and diffusers' `AutoencoderTiny`, a folder or its file, which numbers its layers from 0 and has
`decoder.layers.` before them. They read latents as the diffusion model has them. Book: chapter 5, "A space worth
diffusing in".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from huggingvis.checkpoints.assign import assign
from huggingvis.checkpoints.io import load
from huggingvis.core.errors import FileProblem
from huggingvis.nets.tiny_autoencoder import TinyAutoencoder, TinyAutoencoderConfig
from huggingvis.systems.taef2 import decoder_map

_DIFFUSERS = "decoder.layers."
_FIRST = "1.weight"
_FOLDER_FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")


def bind_decoder(path: Path | str) -> TinyAutoencoder:
    """The autoencoder, of which the file gives the decoder (`decode`). Raises `FileProblem` for other files."""
    path = Path(path)
    if path.is_dir():
        path = next((path / name for name in _FOLDER_FILES if (path / name).is_file()), path / _FOLDER_FILES[0])
    theirs = _as_first_published(load(path, dtype=torch.float32, check=True))
    stem = theirs.get(_FIRST)
    if stem is None or stem.ndim != 4:
        raise FileProblem(
            f"{path} is no TAESD decoder: one has its first convolution under {_FIRST!r}, or under "
            f"'{_DIFFUSERS}0.weight'. Name taesd_decoder.safetensors, or a folder of diffusers' AutoencoderTiny."
        )
    config = TinyAutoencoderConfig(latent_channels=stem.shape[1], width=stem.shape[0])
    net = TinyAutoencoder(config)
    assign(net.decoder, decoder_map(config).to_ours(theirs))
    return net.eval().requires_grad_(False)


def _as_first_published(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The decoder's tensors by the names of its first publication, where layer 0 has no numbers."""
    if not any(key.startswith(_DIFFUSERS) for key in tensors):
        return dict(tensors)
    own = {key.removeprefix(_DIFFUSERS): value for key, value in tensors.items() if key.startswith(_DIFFUSERS)}
    parts = {key: key.partition(".") for key in own}
    return {f"{int(number) + 1}.{rest}": own[key] for key, (number, _, rest) in parts.items()}
