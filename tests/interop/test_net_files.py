"""Folders of diffusers' nets: weights in and out unchanged, older names, published settings; mistakes are explained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers_nets import (
    CLASSES,
    DDPM,
    FLUX_VAE,
    HEADED,
    INPAINT,
    SD1,
    SDXL,
    UNETS,
    VAE,
    Settings,
    class_of,
    reference,
    same_tensors,
)
from safetensors.torch import save_file
from torch import Tensor

from huggingvis.checkpoints import diffusers_autoencoder, diffusers_unet
from huggingvis.checkpoints.diffusers_common import modern, read_weights
from huggingvis.checkpoints.fitting import fits_on
from huggingvis.checkpoints.io import save
from huggingvis.checkpoints.kinds import Subject
from huggingvis.checkpoints.report import report_of
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.nets.autoencoder_kl import AutoencoderConfig
from huggingvis.nets.unet import UNet, UNetConfig


@pytest.mark.parametrize(
    "settings", [DDPM, HEADED, CLASSES, SD1, SDXL, INPAINT, VAE, FLUX_VAE],
    ids=["ddpm", "headed", "classes", "sd1", "sdxl", "inpaint", "vae", "flux"],
)  # fmt: skip
def test_weights_in_and_out_are_identical(settings: Settings, tmp_path: Path) -> None:
    autoencoder = "latent_channels" in settings
    theirs = reference("AutoencoderKL" if autoencoder else class_of(settings), settings)
    theirs.save_pretrained(tmp_path / "in")
    module = diffusers_autoencoder if autoencoder else diffusers_unet
    ours = module.from_diffusers(tmp_path / "in")
    config = json.loads((tmp_path / "in/config.json").read_text())
    module.to_diffusers(ours, tmp_path / "out", config)
    assert same_tensors(read_weights(tmp_path / "out"), theirs.state_dict())
    again = type(theirs).from_pretrained(tmp_path / "out", low_cpu_mem_usage=False)
    assert same_tensors(again.state_dict(), theirs.state_dict())


def older(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    out = {}
    for name, tensor in tensors.items():
        for new, old in names.items():
            name = name.replace(f".{new}.", f".{old}.")
        out[name] = tensor
    return out


@pytest.mark.parametrize(("settings", "name"), [(DDPM, "UNet2DModel"), (VAE, "AutoencoderKL")], ids=["ddpm", "vae"])
def test_old_names_of_attention_are_read(settings: Settings, name: str, tmp_path: Path) -> None:
    theirs = reference(name, settings)
    theirs.save_pretrained(tmp_path)
    old = older(theirs.state_dict())
    assert sum("proj_attn" in key for key in old) >= 4 and same_tensors(modern(old), theirs.state_dict())
    save(tmp_path / "diffusion_pytorch_model.safetensors", old)
    module = diffusers_unet if name == "UNet2DModel" else diffusers_autoencoder
    tensors = module.from_diffusers(tmp_path).state_dict()
    save(tmp_path / "diffusion_pytorch_model.safetensors", theirs.state_dict())
    assert same_tensors(tensors, module.from_diffusers(tmp_path).state_dict())


def test_latent_statistics() -> None:
    mean, std = diffusers_autoencoder.latent_statistics(FLUX_VAE)
    assert mean == (0.11,) * 8 and std == pytest.approx((1 / 0.36,) * 8)
    assert diffusers_autoencoder.latent_statistics(VAE)[1][0] == pytest.approx(5.48998, 1e-5)


PUBLISHED: dict[str, tuple[Settings, UNetConfig]] = {  # the settings of well-known files, without those at default
    "SD 2": (
        {"_class_name": "UNet2DConditionModel", "attention_head_dim": [5, 10, 20, 20], "cross_attention_dim": 1024,
         "use_linear_projection": True},
        UNetConfig(4, 4, 0, (320, 640, 1280, 1280), 2, (1, 1, 1, 0), 1, tokens_dim=1024, head_dim=64),
    ),
    "SDXL": (
        {"_class_name": "UNet2DConditionModel", "attention_head_dim": [5, 10, 20], "cross_attention_dim": 2048,
         "block_out_channels": [320, 640, 1280], "transformer_layers_per_block": [1, 2, 10],
         "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
         "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"], "use_linear_projection": True,
         "addition_embed_type": "text_time", "projection_class_embeddings_input_dim": 2816},
        UNetConfig(4, 4, 0, (320, 640, 1280), 2, (0, 2, 10), 10, tokens_dim=2048, vector_dim=2816, head_dim=64),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_settings(name: str) -> None:
    settings, want = PUBLISHED[name]
    assert diffusers_unet.config_from_diffusers(settings) == want


BAD: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: diffusers_unet.config_from_diffusers(SD1 | {"dual_cross_attention": True}), FileProblem, "dual_cross"),
    (lambda: diffusers_unet.config_from_diffusers(SD1 | {"time_cond_proj_dim": 7}), FileProblem, "time_cond_proj_dim"),
    (lambda: diffusers_unet.config_from_diffusers(SD1 | {"layers_per_block": [1, 2, 2]}), FileProblem, "layers_per"),
    (lambda: diffusers_unet.config_from_diffusers(SDXL | {"attention_head_dim": [2, 3]}), FileProblem, "head_dim"),
    (lambda: diffusers_unet.config_from_diffusers({"_class_name": "UNet2D"}), UsageError, "UNet2DModel"),
    (lambda: diffusers_unet.config_to_diffusers(UNetConfig(tokens_dim=8, ff_mult=2.0)), UsageError, "ff_mult"),
    (lambda: diffusers_unet.config_to_diffusers(UNetConfig(vector_dim=8)), UsageError, "vector_layers"),
    (lambda: diffusers_autoencoder.config_to_diffusers(AutoencoderConfig(patch=2)), UsageError, "patch"),
    (lambda: diffusers_autoencoder.config_from_diffusers(VAE | {"out_channels": 1}), FileProblem, "out_channels"),
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_what_cannot_be_expressed_is_refused_by_name(number: int) -> None:
    call, error, word = BAD[number]
    with pytest.raises(error, match=word):
        call()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("block_out_channels", 64),
        ("block_out_channels", ["wide", "wider"]),
        ("block_out_channels", [8, -16]),
        ("layers_per_block", "two"),
        ("layers_per_block", 10**9),
        ("norm_num_groups", {"a": 1}),
        ("norm_eps", None),
        ("flip_sin_to_cos", 3),
        ("in_channels", True),
    ],
)
def test_hostile_settings_are_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(FileProblem, match=f"config.json should have for {key}"):
        diffusers_unet.config_from_diffusers(DDPM | {key: value})


UNEVEN = [
    (DDPM, {"block_out_channels": []}, "block_out_channels"),
    (DDPM, {"block_out_channels": [33, 64]}, "an even first width"),
    (DDPM, {"in_channels": 0}, "in_channels"),
    (DDPM, {"in_channels": [3]}, "in_channels"),
    (DDPM, {"norm_num_groups": 0}, "norm_num_groups"),
    (DDPM, {"down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"]}, "one for each of 2 levels"),
    (DDPM, {"attention_head_dim": [4, 4]}, "one number"),
    (DDPM, {"num_class_embeds": -1}, "num_class_embeds"),
    (DDPM, {"num_class_embeds": "ten"}, "num_class_embeds"),
    (DDPM, {"layers_per_block": 999}, "at most 1000"),
    (SD1, {"transformer_layers_per_block": [1, 1]}, "one for each of 3 levels"),
    (SD1, {"transformer_layers_per_block": 999}, "at most 1000"),
    (SD1, {"attention_head_dim": [4, 4]}, "one for each of 3 levels"),
    (SD1, {"attention_head_dim": None}, "attention_head_dim"),
    (SD1, {"cross_attention_dim": [32] * 999}, "cross_attention_dim"),
]


@pytest.mark.parametrize(("settings", "more", "word"), UNEVEN, ids=lambda x: str(x)[:40])
def test_sizes_that_do_not_go_together_are_refused_by_name(settings: Settings, more: Settings, word: str) -> None:
    with pytest.raises(FileProblem, match=word):
        diffusers_unet.config_from_diffusers({**settings, **more})


def test_scales_of_latents_are_numbers_that_can_be_divided_by() -> None:
    for more in ({"scaling_factor": 0.0}, {"latents_std": [1, 1, 0, 1]}, {"latents_mean": [0.0]}, {"latents_mean": "0"},
                 {"shift_factor": "0"}, {"latents_std": [[1]] * 4}):  # fmt: skip
        with pytest.raises(FileProblem, match="finite numbers, one for each channel"):
            diffusers_autoencoder.latent_statistics({**VAE, **more})


def test_sizes_that_make_no_network_are_refused_by_file(tmp_path: Path) -> None:
    """What only the network itself finds out, such as groups that do not divide its widths."""
    net = reference(class_of(DDPM), DDPM)
    net.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**DDPM, "norm_num_groups": 7}))
    with pytest.raises(FileProblem, match="make no network") as caught:
        diffusers_unet.from_diffusers(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_model_of_such_sizes_is_no_base(tmp_path: Path) -> None:
    """Nor does looking whether a LoRA fits it end in anything but words."""
    settings = {**SD1, "_class_name": class_of(SD1), "cross_attention_dim": 768, "norm_num_groups": 7}
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet/config.json").write_text(json.dumps(settings))
    layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    rows = {f"{layer}.lora_down.weight": torch.ones(4, 768), f"{layer}.lora_up.weight": torch.ones(1280, 4)}
    save_file(rows, tmp_path / "lora.safetensors")
    told = fits_on(report_of(Subject(tmp_path / "lora.safetensors")), tmp_path / "unet")
    assert told["fits"] is False and "make no network" in told["why"]


def test_folder_mistakes_are_explained(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match=r"config\.json"):
        diffusers_unet.from_diffusers(tmp_path)
    (tmp_path / "config.json").write_text("[")
    with pytest.raises(FileProblem, match="does not parse"):
        diffusers_unet.from_diffusers(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(SD1))
    with pytest.raises(FileProblem, match="holds no weights"):
        diffusers_unet.from_diffusers(tmp_path)
    small = UNet(UNETS["text"])
    with pytest.raises(UsageError, match="other sizes"):
        diffusers_unet.to_diffusers(small, tmp_path / "x", SD1)
