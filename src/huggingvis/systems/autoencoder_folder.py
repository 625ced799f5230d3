"""An autoencoder of diffusers by itself: the folder of an `AutoencoderKL` or a `VQModel`.

It encodes and decodes, and `hvis explore reconstruct` shows what it keeps of pictures. It draws none: it has learnt no
law of latents to draw them from. Its latents are as its encoder gives them (of a VQModel, codes); inside a diffusion
the same autoencoder's are shifted and scaled to mean 0 and deviation 1 (`codecs.kl_latents`). Book: chapters 1 and 5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from huggingvis.checkpoints import diffusers_autoencoder, diffusers_vq
from huggingvis.checkpoints.diffusers_common import read_config, trained_sides
from huggingvis.core.errors import UsageError, about
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
    """An autoencoder without a law of its latents. `Encodes`, `Decodes`, `Shaped` and `DrawsNone` of
    `core.protocols`."""

    why_none = (
        "An autoencoder by itself has no law of latents to draw pictures from. See what it keeps of pictures by `hvis "
        "explore reconstruct PICTURE`, or give it to a model by --vae."
    )

    def __init__(self, net: AutoencoderKL | VQAutoencoder):
        super().__init__()
        self.net = net

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """[C, h, w] of latents, [h, w] of codes, of any size."""
        return (self.net.config.latent_channels, 0, 0) if isinstance(self.net, AutoencoderKL) else (0, 0)

    def encode(self, x: Tensor) -> Tensor:
        return self.net.encode(x)

    def decode(self, z: Tensor) -> Tensor:
        return self.net.decode(z).clamp(-1, 1)

    def sample(self, n: int, cond: Cond, *, noise: Noise, on_step: OnStep | None = None) -> Tensor:
        raise UsageError(self.why_none)


def is_one(folder: Path) -> bool:
    """Whether a folder holds such an autoencoder and nothing else."""
    return (folder / "config.json").is_file() and read_config(folder).get("_class_name") in READERS


def bind_autoencoder(folder: Path, device: torch.device) -> System:
    """The system of such a folder, for pictures of the size that its config names. Raises `FileProblem`."""
    theirs = read_config(folder)
    net = READERS[theirs["_class_name"]](folder, dtype=torch.float32).to(device).requires_grad_(False)
    with about(folder):
        width, height = trained_sides(theirs, 32)
    shape = (int(theirs.get("in_channels", 3)), height, width)
    described = FixedSize(folder.name, "autoencoder_folder", shape)
    return described.system(Autoencoder(net), {"autoencoder": net}, device=device)
