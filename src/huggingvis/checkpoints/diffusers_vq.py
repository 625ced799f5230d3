"""Our VQ autoencoder and diffusers' `VQModel`: configuration and weights, both ways.

The VQ-regularised autoencoder of Rombach et al. 2022 (arXiv 2112.10752), Sec. 3.1: the networks of `AutoencoderKL`,
whose names in `diffusers_autoencoder` hold here too, around a codebook. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from huggingvis.checkpoints import diffusers_autoencoder as kl
from huggingvis.checkpoints import diffusers_common as common
from huggingvis.checkpoints.assign import filled
from huggingvis.checkpoints.diffusers_common import MOST, Json, settings, unsupported
from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.core.errors import UsageError, about
from huggingvis.nets.autoencoder_kl import AutoencoderConfig, Encoder
from huggingvis.nets.quantisers import AveragedQuantiser, VectorQuantiser
from huggingvis.nets.vq_autoencoder import VQAutoencoder, latent_vq

CLASS = "VQModel"

_ONLY: dict[str, tuple[Any, ...]] = {
    "_class_name": (CLASS,), "act_fn": ("silu", "swish"), "norm_type": ("group",),
}  # fmt: skip
_DEFAULTS: dict[str, Any] = {
    "in_channels": 3, "out_channels": 3, "block_out_channels": (64,), "layers_per_block": 1, "latent_channels": 3,
    "norm_num_groups": 32, "num_vq_embeddings": 256, "vq_embed_dim": None, "mid_block_add_attention": True,
    "down_block_types": ("DownEncoderBlock2D",), "up_block_types": ("UpDecoderBlock2D",),
}  # fmt: skip


@dataclass(frozen=True)
class VQConfig:
    """Sizes of the networks, number of codes, numbers of each, and channels that the decoder gives."""

    sizes: AutoencoderConfig
    codes: int
    dim: int
    out_channels: int


def config_from_diffusers(theirs: Json) -> VQConfig:
    """Our sizes from their `config.json`. Raises `FileProblem` naming the first setting that we cannot express."""
    full = settings(theirs, _DEFAULTS, _ONLY)
    dim = full["latent_channels"] if full["vq_embed_dim"] is None else full["vq_embed_dim"]
    if type(dim) is not int or not 1 <= dim <= MOST:
        raise unsupported("vq_embed_dim", dim, "null and whole numbers from 1 on")
    return VQConfig(kl.networks(full), full["num_vq_embeddings"], dim, full["out_channels"])


def config_to_diffusers(config: VQConfig) -> dict[str, Any]:
    """A `config.json` for our sizes. Raises `UsageError` for what diffusers' class does not compute."""
    theirs = kl.config_to_diffusers(config.sizes)
    kept = {key: value for key, value in theirs.items() if key in _DEFAULTS or key == "act_fn"}
    own = {"out_channels": config.out_channels, "num_vq_embeddings": config.codes, "vq_embed_dim": config.dim}
    return {**kept, **own, "_class_name": CLASS}


def keymap(config: VQConfig) -> KeyMap:
    """Names of the net."""
    return KeyMap([*kl.keymap(config.sizes).rules, Rule("quantiser.codebook", "quantize.embedding.weight")])


def from_diffusers(folder: Path | str, *, dtype: torch.dtype | None = None) -> VQAutoencoder:
    """The net in a diffusers folder, in evaluation mode; `dtype` None keeps the file's. Raises `FileProblem`."""
    with about(folder):
        c = config_from_diffusers(common.read_config(folder))
        tensors = keymap(c).consume(common.read_weights(folder, dtype))
        return filled(lambda: latent_vq(VectorQuantiser(c.codes, c.dim), c.sizes, c.out_channels), tensors)


def to_diffusers(net: VQAutoencoder, folder: Path | str, shape: tuple[int, int, int] | None = None) -> Path:
    """Write `net`, built by `latent_vq`, as a folder that diffusers loads; returns it.

    `shape` [C, H, W]: of its pictures; of each value's numbers that the decoder gives, the first is then written alone.
    Either kind of codebook may be in it; what else `AveragedQuantiser` remembers stays behind. Raises `UsageError` for
    a net without a codebook, or of which diffusers has none like it.
    """
    quantiser, encoder = net.quantiser, net.encoder
    if not isinstance(encoder, Encoder):
        raise UsageError(
            "diffusers' VQModel has the networks of latent diffusion, but this net has those of VQ-VAE. Train one that "
            "has them too, by `hvis train vq_vae --autoencoder.net latent`."
        )
    if not isinstance(quantiser, VectorQuantiser | AveragedQuantiser):
        raise UsageError(
            f"diffusers' VQModel has a codebook, but this net has a {type(quantiser).__name__}, which has none. "
            "Save it in this library's own format instead."
        )
    own = ("quantiser.usage", "quantiser.sums")
    tensors = {name: x for name, x in net.state_dict().items() if name not in own}
    channels = shape[0] if shape else len(tensors["decoder.conv_out.bias"])
    tensors |= {name: tensors[name][:channels] for name in ("decoder.conv_out.weight", "decoder.conv_out.bias")}
    config = VQConfig(encoder.config, quantiser.size, quantiser.dim, channels)
    theirs = config_to_diffusers(config) | ({"sample_size": list(shape[1:])} if shape else {})
    return common.write_folder(folder, theirs, keymap(config).to_theirs(tensors))
