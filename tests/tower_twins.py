"""Small towers of transformers with random weights, their folders, and texts to read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from huggingvis.core.taps import ProbsTap, Site

os.environ["HF_HUB_OFFLINE"] = "1"

Settings = dict[str, Any]

CLIP: Settings = {
    "vocab_size": 120, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 3,
    "max_position_embeddings": 11, "projection_dim": 24, "bos_token_id": 118, "eos_token_id": 119, "pad_token_id": 1,
}  # fmt: skip
VISION: Settings = {
    "image_size": 12, "patch_size": 4, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3,
    "num_attention_heads": 3, "projection_dim": 24,
}  # fmt: skip
OPEN_VISION = VISION | {"hidden_act": "gelu", "projection_dim": 16, "num_channels": 1}
T5: Settings = {
    "vocab_size": 120, "d_model": 20, "d_kv": 6, "d_ff": 28, "num_layers": 3, "num_heads": 4,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 9, "feed_forward_proj": "gated-gelu",
}  # fmt: skip
BERT: Settings = {
    "vocab_size": 120, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 3,
    "max_position_embeddings": 16,
}  # fmt: skip
LDM_BERT: Settings = {
    "vocab_size": 120, "max_position_embeddings": 11, "encoder_layers": 3, "encoder_ffn_dim": 40, "d_model": 24,
    "encoder_attention_heads": 3, "head_dim": 6,
}  # fmt: skip
OPEN_CLIP = CLIP | {"hidden_act": "gelu", "projection_dim": 16, "layer_norm_eps": 1e-6}


def randomised(net: nn.Module) -> Any:
    """`net` in evaluation mode, with random numbers in norms and biases too."""
    generator = torch.Generator().manual_seed(0)
    for parameter in net.eval().requires_grad_(False).parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return net


def kind(name: str) -> Any:
    """transformers' class of that name, or diffusers'."""
    if name == "LDMBertModel":
        from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertModel

        return LDMBertModel
    import transformers

    return getattr(transformers, name)


def twin(name: str, settings: Settings) -> Any:
    """transformers' model of that name."""
    torch.manual_seed(0)  # the libraries draw from the global generator
    return randomised(kind(name)(kind(name).config_class(**settings)))


def written(net: Any, folder: Path) -> Path:
    """`net` in a folder as its own library writes it."""
    net.save_pretrained(folder)
    return folder


def texts(length: int = 11) -> Tensor:
    """Four texts of tokens of `CLIP`, of different lengths, padded with the end and with 0."""
    ids = torch.randint(2, 118, (4, length), generator=torch.Generator().manual_seed(1))
    for row, end in enumerate((length - 1, 4, 1, 6)):
        ids[row, 0], ids[row, end] = 118, 119
        ids[row, end + 1 :] = (119, 0)[row % 2]
    return ids


class Recorded(ProbsTap):
    """Keeps the maps."""

    def __init__(self) -> None:
        self.maps: dict[str, Tensor] = {}

    def probs(self, site: Site, probs: Tensor) -> Tensor:
        self.maps[site.name] = probs
        return probs
