"""Small settings of diffusers' nets, those nets with random weights, and how outputs are compared."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from huggingvis.nets.unet import UNetConfig

os.environ["HF_HUB_OFFLINE"] = "1"

Settings = dict[str, Any]

DDPM: Settings = {  # as google/ddpm-cifar10-32: one head, one-sided padding, sines first
    "sample_size": 16, "block_out_channels": [8, 16], "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"], "attention_head_dim": None, "norm_num_groups": 4,
    "norm_eps": 1e-6, "downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1,
}  # fmt: skip
HEADED = DDPM | {"attention_head_dim": 4, "norm_eps": 1e-5, "downsample_padding": 1, "layers_per_block": 1}
CLASSES = HEADED | {"num_class_embeds": 5, "resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 4}
SD1: Settings = {
    "sample_size": 8, "in_channels": 4, "out_channels": 4, "block_out_channels": [8, 16, 16], "layers_per_block": 2,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"], "norm_num_groups": 4,
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"], "attention_head_dim": 2,
    "cross_attention_dim": 6,
}  # fmt: skip
SDXL: Settings = SD1 | {
    "block_out_channels": [8, 16], "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"], "attention_head_dim": [2, 4], "use_linear_projection": True,
    "transformer_layers_per_block": [1, 3], "addition_embed_type": "text_time", "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 5 + 6 * 4, "layers_per_block": 1,
}  # fmt: skip
INPAINT = SD1 | {"in_channels": 9, "layers_per_block": 1}
VAE: Settings = {
    "block_out_channels": [8, 16], "layers_per_block": 2, "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2, "latent_channels": 4, "norm_num_groups": 4, "sample_size": 16,
}  # fmt: skip
FLUX_VAE = VAE | {
    "use_quant_conv": False, "use_post_quant_conv": False, "mid_block_add_attention": False, "latent_channels": 8,
    "scaling_factor": 0.36, "shift_factor": 0.11,
}  # fmt: skip


UNETS = {
    "plain": UNetConfig(channels=(8, 16), attention=(0, 1), groups=4, heads=4, blocks=1, clock_scale=1000.0),
    "one head": UNetConfig(channels=(8, 16), attention=(1, 1), groups=4, heads=1, blocks=1, clock_shift=1.0),
    "classes": UNetConfig(channels=(8, 8), attention=(0, 0), middle=0, groups=4, blocks=1, vector_dim=5,
                          vector_layers=1, scale_shift=True),
    "text": UNetConfig(channels=(8, 16), attention=(0, 2), groups=4, heads=2, tokens_dim=6, middle=2, vector_dim=5),
    "heads": UNetConfig(in_channels=2, concat_channels=1, out_channels=2, channels=(8, 16), attention=(3, 0),
                        middle=1, groups=4, head_dim=4, tokens_dim=6),
}  # fmt: skip


def reference(name: str, settings: Settings) -> Any:
    """diffusers' net with random weights, norms and biases included."""
    import diffusers

    torch.manual_seed(0)
    net = getattr(diffusers, name)(**settings).eval().requires_grad_(False)
    for parameter in net.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return net


def class_of(settings: Settings) -> str:
    return "UNet2DConditionModel" if "cross_attention_dim" in settings else "UNet2DModel"


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).detach().abs().max() / theirs.abs().max())


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def same_tensors(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
