"""Real sizes of the Stable Diffusion family as shapes alone, and small nets of its build."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import torch
from diffusers_nets import INPAINT, SD1, SDXL, Settings

from huggingvis.checkpoints import ldm_autoencoder, ldm_unet
from huggingvis.checkpoints.formats import TensorFact
from huggingvis.nets.autoencoder_kl import AutoencoderConfig, AutoencoderKL
from huggingvis.nets.unet import UNet, UNetConfig

Facts = dict[str, TensorFact]

SIZES_1 = UNetConfig(
    in_channels=4, out_channels=4, channels=(320, 640, 1280, 1280), attention=(1, 1, 1, 0), heads=8, tokens_dim=768
)
SIZES_2 = replace(SIZES_1, heads=4, head_dim=64, tokens_dim=1024)
SIZES_XL = replace(
    SIZES_2, channels=(320, 640, 1280), attention=(0, 2, 10), middle=10, tokens_dim=2048, vector_dim=2816
)
REFINER = replace(
    SIZES_2, channels=(384, 768, 1536, 1536), attention=(0, 4, 4, 0), middle=4, tokens_dim=1280, vector_dim=2560
)

LINEAR = SD1 | {"attention_head_dim": [2, 4, 4], "use_linear_projection": True}
SMALL_REFINER = SDXL | {
    "block_out_channels": [8, 16, 16, 16], "attention_head_dim": [2, 4, 4, 4], "layers_per_block": 2,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "transformer_layers_per_block": 2,
}  # fmt: skip
SMALL: dict[str, Settings] = {
    "SD1": SD1, "SD2": LINEAR, "XL": SDXL, "refiner": SMALL_REFINER, "inpaint": INPAINT,
    "pix2pix": SD1 | {"in_channels": 8},
    "one level": SD1 | {"block_out_channels": [8], "down_block_types": ["CrossAttnDownBlock2D"],
                        "up_block_types": ["CrossAttnUpBlock2D"]},
}  # fmt: skip


@cache
def net_facts(config: UNetConfig, linear: bool, prefix: str = ldm_unet.PREFIX) -> Facts:
    with torch.device("meta"):
        net = UNet(config)
    return _facts(ldm_unet.keymap(config, linear=linear, prefix=prefix).to_theirs(net.state_dict()))


@cache
def autoencoder_facts(prefix: str = ldm_autoencoder.PREFIX, linear: bool = False) -> Facts:
    config = AutoencoderConfig()
    with torch.device("meta"):
        net = AutoencoderKL(config)
    return _facts(ldm_autoencoder.keymap(config, linear=linear, prefix=prefix).to_theirs(net.state_dict()))


def _facts(tensors: dict[str, torch.Tensor]) -> Facts:
    return {name: TensorFact("F16", tuple(x.shape)) for name, x in tensors.items()}


def fact(*shape: int, dtype: str = "F16") -> TensorFact:
    return TensorFact(dtype, shape)


def clip(prefix: str, width: int, depth: int) -> Facts:
    """A tower of transformers in the names that matter."""
    out = {f"{prefix}embeddings.token_embedding.weight": fact(49408, width)}
    out |= {f"{prefix}embeddings.position_embedding.weight": fact(77, width)}
    out |= {f"{prefix}embeddings.position_ids": fact(1, 77, dtype="I64")}
    return out | {f"{prefix}encoder.layers.{n}.mlp.fc1.weight": fact(4 * width, width) for n in range(depth)}


def open_clip(prefix: str, width: int, depth: int) -> Facts:
    out = {f"{prefix}token_embedding.weight": fact(49408, width), f"{prefix}positional_embedding": fact(77, width)}
    out |= {f"{prefix}text_projection": fact(width, width), f"{prefix}logit_scale": fact()}
    return out | {f"{prefix}transformer.resblocks.{n}.mlp.c_fc.weight": fact(4 * width, width) for n in range(depth)}
