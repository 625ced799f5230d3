"""An autoencoder of diffusers by itself: the folder of an `AutoencoderKL` or a `VQModel`.

It encodes and decodes, and `hvis explore reconstruct` shows what it keeps of pictures; which latents pictures have it
does not know, so that it draws none. Book: chapters 1 and 5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from huggingvis.checkpoints import diffusers_autoencoder, diffusers_vq
from huggingvis.checkpoints.diffusers_common import read_config
from huggingvis.core.errors import UsageError
from huggingvis.core.noise import Noise
from huggingvis.core.protocols import Cond, OnStep
from huggingvis.core.system import System
from huggingvis.nets.autoencoder_kl import AutoencoderKL
from huggingvis.nets.vq_autoencoder import VQAutoencoder
from huggingvis.systems.fixed_size import FixedSize

READERS: Mapping[str, Callable[..., AutoencoderKL | VQAutoencoder]] = {
    "AutoencoderKL": diffusers_autoencoder.from_diffusers,
    "VQModel": diffusers_vq.from_diffusers,
}


@final
class Autoencoder(nn.Module):
    """An autoencoder without a law of its latents. `Encodes` and `Decodes` of `core.protocols`."""

    def __init__(self, net: AutoencoderKL | VQAutoencoder):
        super().__init__()
        self.net = net

    def encode(self, x: Tensor) -> Tensor:
        return self.net.encode(x)

    def decode(self, z: Tensor) -> Tensor:
        return self.net.decode(z).clamp(-1, 1)

    def sample(self, n: int, cond: Cond, *, noise: Noise, on_step: OnStep | None = None) -> Tensor:
        raise UsageError(
            "An autoencoder by itself does not know which latents pictures have, so it draws none. See what it keeps "
            "of pictures by `hvis explore reconstruct PICTURE`, or give it to a model by --vae."
        )


def is_one(folder: Path) -> bool:
    """Whether a folder holds such an autoencoder and nothing else."""
    return (folder / "config.json").is_file() and read_config(folder).get("_class_name") in READERS


def bind_autoencoder(folder: Path, device: torch.device) -> System:
    """The system of such a folder, for pictures of the size that its config names. Raises `FileProblem`."""
    theirs = read_config(folder)
    net = READERS[theirs["_class_name"]](folder, dtype=torch.float32).to(device).requires_grad_(False)
    shape = (int(theirs.get("in_channels", 3)), *_size(theirs.get("sample_size", 32)))
    described = FixedSize(folder.name, "autoencoder_folder", shape)
    return described.system(Autoencoder(net), {"autoencoder": net}, device=device)


def _size(said: Any) -> tuple[int, int]:
    """(height, width) of what diffusers writes as one number or two."""
    height, width = said if isinstance(said, list) else (said, said)
    return int(height), int(width)
