"""Our U-Net and autoencoder against diffusers': the same random weights give the same output, either way."""

from __future__ import annotations

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
    draw,
    reference,
    relative,
    same_tensors,
)
from torch import Tensor, nn

import huggingvis as hv
from huggingvis.checkpoints import diffusers_autoencoder, diffusers_unet
from huggingvis.core.errors import UsageError
from huggingvis.nets.autoencoder_kl import AutoencoderConfig, AutoencoderKL
from huggingvis.nets.blocks import Upsample
from huggingvis.nets.unet import UNet

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


@pytest.mark.parametrize(("height", "width"), [(5, 7), (9, 6), (1, 3), (8, 10)])
def test_unet_on_sides_that_two_does_not_divide(height: int, width: int, tmp_path: Path) -> None:
    theirs = reference("UNet2DConditionModel", SD1)
    theirs.save_pretrained(tmp_path)
    ours = diffusers_unet.from_diffusers(tmp_path)
    x, tokens = draw(2, 4, height, width), draw(2, 7, 6)
    assert relative(ours(x, CLOCK, {"tokens": tokens}), theirs(x, CLOCK, tokens).sample) < 1e-5


def test_upsampling_to_twice_the_size_is_doubling() -> None:
    up, x = Upsample(3), draw(2, 3, 5, 7)
    doubled = up.conv(nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"))
    assert torch.equal(up(x), doubled) and torch.equal(up(x, (10, 14)), doubled)


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
    theirs.register_to_config(sample_size=[16, 24])
    theirs.save_pretrained(folder)
    system, wide = hv.load(folder, device="cpu"), draw(1, 3, 16, 24)
    assert system.spec.size == (24, 16) and torch.equal(system.encode(wide), net.encode(wide))
    assert system.verbs == ("encode", "decode")
    for asked in (system.sample, lambda: system.log_prob(wide)):
        with pytest.raises(UsageError, match="hvis explore reconstruct PICTURE"):
            asked()
    with pytest.raises(UsageError, match=r"Expected latents \[B, 4, any, any\] .*found \[1, 3, 8, 8\]"):
        system.decode(torch.zeros(1, 3, 8, 8))
    with pytest.raises(UsageError, match="'a fox' would change nothing"):
        system.decode(system.encode(wide), "a fox")
    theirs.register_to_config(sample_size=None)
    theirs.save_pretrained(folder)
    assert hv.load(folder, device="cpu").spec.size == (32, 32)
