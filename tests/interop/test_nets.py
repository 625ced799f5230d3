"""Our U-Net and autoencoder against diffusers': the same random weights give the same output, in and out unchanged."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from huggingvis.checkpoints import diffusers_autoencoder, diffusers_unet
from huggingvis.checkpoints.diffusers_common import modern, read_weights
from huggingvis.checkpoints.io import save
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.nets.autoencoder_kl import AutoencoderConfig, AutoencoderKL
from huggingvis.nets.unet import UNet, UNetConfig

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


CLOCK = torch.tensor([3.0, 977.0])


@pytest.mark.parametrize("settings", [DDPM, HEADED, CLASSES], ids=["ddpm", "headed", "classes"])
def test_unet_without_text(settings: Settings, tmp_path: Path) -> None:
    theirs = reference("UNet2DModel", settings)
    theirs.save_pretrained(tmp_path)
    ours = diffusers_unet.from_diffusers(tmp_path)
    x, labels = draw(2, 3, 16, 16), torch.tensor([1, 4])
    extra = {"class_labels": labels} if "num_class_embeds" in settings else {}
    cond = {"vector": nn.functional.one_hot(labels, 5).float()} if extra else {}
    assert relative(ours(x, CLOCK, cond), theirs(x, CLOCK, **extra).sample) < 1e-5


@pytest.mark.parametrize("settings", [SD1, SDXL, INPAINT], ids=["sd1", "sdxl", "inpaint"])
def test_unet_with_text(settings: Settings, tmp_path: Path) -> None:
    from diffusers.models.embeddings import get_timestep_embedding

    theirs = reference("UNet2DConditionModel", settings)
    theirs.save_pretrained(tmp_path)
    ours = diffusers_unet.from_diffusers(tmp_path)
    x, tokens = draw(2, settings["in_channels"], 8, 8), draw(2, 7, 6)
    cond, extra = {"tokens": tokens, "concat": x[:, 4:]}, {}
    if "addition_embed_type" in settings:
        pooled, sizes = draw(2, 5), torch.tensor([[512.0, 256, 0, 3, 512, 512]] * 2)
        extra = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": sizes}}
        sinusoids = get_timestep_embedding(sizes.flatten(), 4, True, 0).reshape(2, -1)
        cond["vector"] = torch.cat([pooled, sinusoids], dim=1)
    want = theirs(x, CLOCK, tokens, **extra).sample
    assert relative(ours(x[:, :4], CLOCK, cond), want) < 1e-5

    mask = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])
    want = theirs(x, CLOCK, tokens, encoder_attention_mask=mask, **extra).sample
    assert relative(ours(x[:, :4], CLOCK, cond | {"tokens_mask": mask}), want) < 1e-5


def test_residuals_port_is_their_additional_residuals(tmp_path: Path) -> None:
    theirs = reference("UNet2DConditionModel", SD1)
    theirs.save_pretrained(tmp_path)
    ours = diffusers_unet.from_diffusers(tmp_path)
    x, tokens = draw(2, 4, 8, 8), draw(2, 7, 6)
    shapes = [(8, 8)] * 3 + [(8, 4), (16, 4), (16, 4), (16, 2), (16, 2), (16, 2), (16, 2)]
    residuals = [draw(2, c, side, side) for c, side in shapes]
    want = theirs(
        x, CLOCK, tokens, down_block_additional_residuals=residuals[:-1], mid_block_additional_residual=residuals[-1]
    ).sample
    cond = {"tokens": tokens, **{f"residuals.{n}": r for n, r in enumerate(residuals)}}
    assert relative(ours(x, CLOCK, cond), want) < 1e-5
    assert relative(ours(x, CLOCK, {"tokens": tokens}), want) > 1e-2


@pytest.mark.parametrize("settings", [VAE, FLUX_VAE], ids=["sd", "flux"])
def test_autoencoder(settings: Settings, tmp_path: Path) -> None:
    theirs = reference("AutoencoderKL", settings)
    theirs.save_pretrained(tmp_path)
    ours = diffusers_autoencoder.from_diffusers(tmp_path)
    x, z = draw(2, 3, 16, 16), draw(2, settings["latent_channels"], 8, 8)
    posterior, want = ours.posterior(x), theirs.encode(x).latent_dist
    assert relative(posterior.mean, want.mean) < 1e-5 and relative(posterior.logvar, want.logvar) < 1e-5
    assert relative(posterior.kl(), want.kl()) < 1e-5
    assert relative(ours.decode(z), theirs.decode(z).sample) < 1e-5


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


UNETS = {
    "plain": UNetConfig(channels=(8, 16), attention=(0, 1), groups=4, heads=4, blocks=1, clock_scale=1000.0),
    "one head": UNetConfig(channels=(8, 16), attention=(1, 1), groups=4, heads=1, blocks=1, clock_shift=1.0),
    "classes": UNetConfig(channels=(8, 8), attention=(0, 0), middle=0, groups=4, blocks=1, vector_dim=5,
                          vector_layers=1, scale_shift=True),
    "text": UNetConfig(channels=(8, 16), attention=(0, 2), groups=4, heads=2, tokens_dim=6, middle=2, vector_dim=5),
    "heads": UNetConfig(in_channels=2, concat_channels=1, out_channels=2, channels=(8, 16), attention=(3, 0),
                        middle=1, groups=4, head_dim=4, tokens_dim=6),
}  # fmt: skip


@pytest.mark.parametrize("name", UNETS)
@torch.no_grad()
def test_diffusers_loads_and_runs_our_unet(name: str, tmp_path: Path) -> None:
    import diffusers

    torch.manual_seed(1)
    config = UNETS[name]
    net = UNet(config).eval()
    folder = diffusers_unet.to_diffusers(net, tmp_path / "unet")
    theirs = getattr(diffusers, class_of({"cross_attention_dim": 1} if config.tokens_dim else {}))
    theirs = theirs.from_pretrained(folder, low_cpu_mem_usage=False).eval()
    x, tokens, clock = draw(2, config.in_channels, 8, 8), draw(2, 5, 6), torch.tensor([0.1, 0.9])
    cond = {"tokens": tokens, "concat": draw(2, config.concat_channels, 8, 8)}
    extra: dict[str, Tensor] = {"encoder_hidden_states": tokens} if config.tokens_dim else {}
    if config.vector_dim:
        labels = torch.tensor([1, 4])
        cond["vector"] = nn.functional.one_hot(labels, 5).float() if config.vector_layers == 1 else draw(2, 5)
        extra["class_labels"] = labels if config.vector_layers == 1 else cond["vector"]
    whole = torch.cat([x, cond["concat"]], dim=1)
    want = theirs(whole, config.clock_scale * clock, **extra).sample
    assert relative(net(x, clock, cond), want) < 1e-5
    back = diffusers_unet.from_diffusers(folder)
    assert same_tensors(dict(back.state_dict()), dict(net.state_dict()))


@torch.no_grad()
def test_diffusers_loads_and_runs_our_autoencoder(tmp_path: Path) -> None:
    import diffusers

    net = AutoencoderKL(AutoencoderConfig(channels=(8, 16), blocks=1, groups=4)).eval()
    folder = diffusers_autoencoder.to_diffusers(net, tmp_path / "vae")
    theirs = diffusers.AutoencoderKL.from_pretrained(folder, low_cpu_mem_usage=False)
    x = draw(1, 3, 16, 16)
    assert relative(net.encode(x), theirs.encode(x).latent_dist.mean) < 1e-5
    assert diffusers_autoencoder.from_diffusers(folder).config == net.config


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
    (lambda: diffusers_unet.config_from_diffusers(SD1 | {"time_cond_proj_dim": 8}), FileProblem, "time_cond_proj_dim"),
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
