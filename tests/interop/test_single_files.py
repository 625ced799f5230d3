"""Single-file checkpoints: told from shapes, read, written, and read by diffusers' converter as the same tensors."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers_nets import VAE, draw, reference, relative, same_tensors
from safetensors.torch import load_file, save_file
from single_files import (
    REFINER,
    SIZES_1,
    SIZES_2,
    SIZES_XL,
    SMALL,
    Facts,
    autoencoder_facts,
    clip,
    fact,
    net_facts,
    open_clip,
)

from huggingvis.checkpoints import diffusers_autoencoder, diffusers_unet, ldm_autoencoder, ldm_unet
from huggingvis.checkpoints.assign import assign
from huggingvis.checkpoints.single_file import Parts, Said, detect, look, parts_of, read_parts, write_single_file
from huggingvis.checkpoints.single_file_layout import Layout
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.nets.autoencoder_kl import AutoencoderConfig, AutoencoderKL
from huggingvis.nets.unet import UNet, UNetConfig

TESTDATA = os.environ.get("HUGGINGVIS_TESTDATA")


@cache
def nets(name: str) -> tuple[Any, Any, UNet, AutoencoderKL]:
    """diffusers' U-Net and autoencoder with random weights, and ours with the same."""
    theirs, autoencoder = reference("UNet2DConditionModel", SMALL[name]), reference("AutoencoderKL", VAE)
    unet = UNet(diffusers_unet.config_from_diffusers(SMALL[name])).eval()
    assign(unet, diffusers_unet.keymap(SMALL[name]).to_ours(theirs.state_dict()))
    sizes = diffusers_autoencoder.config_from_diffusers(VAE)
    ours = AutoencoderKL(sizes).eval()
    assign(ours, diffusers_autoencoder.keymap(sizes).to_ours(autoencoder.state_dict()))
    return theirs, autoencoder, unet, ours


def small(name: str) -> Parts:
    """Our nets as parts to be written."""
    *_, unet, autoencoder = nets(name)
    linear = SMALL[name].get("use_linear_projection", False)
    towers = {"text": {"cond_stage_model.transformer.text_model.final_layer_norm.weight": torch.ones(3)}}
    return parts_of(unet, autoencoder, towers=towers, linear=linear)


# --------------------------------------------------------------------------------------------- the same as diffusers


@pytest.mark.parametrize("name", list(SMALL))
def test_diffusers_converts_our_file_into_its_own_tensors(tmp_path: Path, name: str) -> None:
    from diffusers.loaders import single_file_utils as theirs

    unet, autoencoder, *_ = nets(name)
    ours = load_file(write_single_file(tmp_path / "x.safetensors", small(name)))
    assert same_tensors(theirs.convert_ldm_unet_checkpoint(ours, dict(unet.config)), unet.state_dict())
    assert same_tensors(theirs.convert_ldm_vae_checkpoint(ours, dict(autoencoder.config)), autoencoder.state_dict())


def test_diffusers_loads_our_file_and_computes_the_same(tmp_path: Path) -> None:
    import diffusers

    unet, autoencoder, *_ = nets("XL")
    path = write_single_file(tmp_path / "x.safetensors", small("XL"))
    for name, folder, net in (("UNet2DConditionModel", "unet", unet), ("AutoencoderKL", "vae", autoencoder)):
        net.save_pretrained(tmp_path / folder)
        loaded = getattr(diffusers, name).from_single_file(
            str(path), config=str(tmp_path / folder), local_files_only=True
        )
        assert same_tensors(loaded.state_dict(), net.state_dict())
    x, tokens, t = draw(2, 4, 8, 8), draw(2, 5, 6), torch.tensor([3.0, 700.0])
    text, times = draw(2, 5), torch.arange(12.0).reshape(2, 6)
    expected = unet(x, t, tokens, added_cond_kwargs={"text_embeds": text, "time_ids": times}).sample
    vector = torch.cat([text, unet.add_time_proj(times.flatten()).reshape(2, -1)], dim=1)
    read = read_parts(path)
    assert read.unet is not None
    assert relative(read.unet(x, t, {"tokens": tokens, "vector": vector}), expected) < 1e-5


@pytest.mark.parametrize("name", list(SMALL))
def test_load_save_load_is_identical(tmp_path: Path, name: str) -> None:
    parts = small(name)
    parts.extra["alphas_cumprod"] = torch.linspace(1, 0, 10, dtype=torch.float64)
    parts.metadata["ss_note"] = "kept"
    first = write_single_file(tmp_path / "1.safetensors", parts)
    read = read_parts(first)
    second = write_single_file(tmp_path / "2.safetensors", read)
    again = read_parts(second)
    assert same_tensors(load_file(first), load_file(second)) and read.metadata == again.metadata
    assert read.metadata["ss_note"] == "kept" and read.layout == again.layout
    for one, other in ((parts, read), (read, again)):
        assert one.unet and other.unet and one.autoencoder and other.autoencoder
        assert one.unet.config == other.unet.config and one.autoencoder.config == other.autoencoder.config
        assert same_tensors(one.unet.state_dict(), other.unet.state_dict())
        assert same_tensors(one.autoencoder.state_dict(), other.autoencoder.state_dict())
    assert not read.unet.training and "alphas_cumprod" in again.extra


def test_the_real_names_of_sd1_and_sd2() -> None:
    """All 934 names of each net and autoencoder, and both layouts agree with the table of a third party."""
    if TESTDATA is None:
        pytest.skip("HUGGINGVIS_TESTDATA is not set: no real key maps")
    for number, sizes in ((1, SIZES_1), (2, SIZES_2)):
        file = Path(TESTDATA) / "configs/keymaps" / f"stable_diffusion_sd{number}.json"
        table = json.loads(file.read_text())
        pairs = {a: b for a, b in table["ldm_diffusers_keymap"].items() if not a.startswith("cond_stage")}
        with torch.device("meta"):
            unet, autoencoder = UNet(sizes), AutoencoderKL(AutoencoderConfig())
        linear = number == 2
        settings = diffusers_unet.config_to_diffusers(sizes) | {"use_linear_projection": linear}
        ldm = ldm_unet.keymap(sizes, linear=linear), ldm_autoencoder.keymap(AutoencoderConfig())
        diffusers = diffusers_unet.keymap(settings), diffusers_autoencoder.keymap(AutoencoderConfig())
        found: dict[str, str] = {}
        shapes: dict[str, list[list[int]]] = {}
        for net, there, here, prefix in zip((unet, autoencoder), ldm, diffusers, ("unet_", "vae_"), strict=True):
            for name, tensor in net.state_dict().items():
                ((a, x),), ((b, y),) = there.to_theirs({name: tensor}).items(), here.to_theirs({name: tensor}).items()
                found[a] = prefix + b
                if x.shape != y.shape:
                    shapes[a] = [list(x.shape), list(y.shape)]
            assert {n: x.shape for n, x in there.to_ours(there.to_theirs(net.state_dict())).items()} == {
                n: x.shape for n, x in net.state_dict().items()
            }
        assert len(found) == 934 and found == pairs
        assert shapes == table["ldm_diffusers_shape_map"]


# ------------------------------------------------------------------------------------------------ told from shapes


def whole(sizes: UNetConfig, linear: bool) -> Facts:
    """A checkpoint with the baggage that real ones carry."""
    baggage = {"model_ema.decay": fact(), "model_ema.diffusion_modelout2bias": fact(4), "betas": fact(1000)}
    return net_facts(sizes, linear) | autoencoder_facts() | baggage | {"first_stage_model.loss.logvar": fact()}


CLIP_L = ("cond_stage_model.transformer.text_model.", 768, 12)
FAMILY: dict[str, tuple[UNetConfig, bool, Callable[[], Facts], dict[str, tuple[str, int, int]]]] = {
    "Stable Diffusion 1": (SIZES_1, False, lambda: clip(*CLIP_L), {"text": ("transformers", 768, 12)}),
    "Stable Diffusion 1 inpainting": (replace(SIZES_1, concat_channels=5), False, lambda: clip(*CLIP_L),
                                      {"text": ("transformers", 768, 12)}),
    "Stable Diffusion 1 instruct-pix2pix": (replace(SIZES_1, concat_channels=4), False, lambda: clip(
        "cond_stage_model.transformer.", 768, 12), {"text": ("transformers", 768, 12)}),
    "Stable Diffusion 2": (SIZES_2, True, lambda: open_clip("cond_stage_model.model.", 1024, 23),
                           {"text": ("open_clip", 1024, 23)}),
    "Stable Diffusion XL": (SIZES_XL, True, lambda: clip("conditioner.embedders.0.transformer.text_model.", 768, 12)
                            | open_clip("conditioner.embedders.1.model.", 1280, 32),
                            {"text": ("transformers", 768, 12), "text_2": ("open_clip", 1280, 32)}),
    "Stable Diffusion XL refiner": (REFINER, True, lambda: open_clip("conditioner.embedders.0.model.", 1280, 32),
                                    {"text_2": ("open_clip", 1280, 32)}),
}  # fmt: skip


@pytest.mark.parametrize("title", list(FAMILY))
def test_members_are_told_by_their_shapes(title: str) -> None:
    sizes, linear, towers, expected = FAMILY[title]
    found = detect(whole(sizes, linear) | towers())
    assert found.title == title and found.unet and found.unet.config == sizes and found.unet.linear == linear
    assert found.autoencoder and found.autoencoder.config == AutoencoderConfig() and not found.autoencoder.linear
    assert {part: (t.spelling, t.dim, t.depth) for part, t in found.towers.items()} == expected
    assert all((t.length, t.vocabulary, t.hidden) == (77, 49408, 4 * t.dim) for t in found.towers.values())
    assert found.extra == ("betas",) and found.dropped == 3 and not found.eight_bit
    assert found.prediction == "epsilon" and bool(found.assumed) == title.endswith("2")


def test_parts_by_themselves_and_under_other_prefixes() -> None:
    for prefix in ("", "diffusion_model."):
        found = detect(net_facts(SIZES_1, False, prefix))
        assert found.title == "Stable Diffusion 1" and found.unet and found.unet.prefix == prefix
    for prefix, linear in (("", False), ("first_stage_model.", True), ("vae.", False)):
        found = detect(autoencoder_facts(prefix, linear))
        assert found.title == "an autoencoder by itself" and found.autoencoder and found.unet is None
        assert (found.autoencoder.prefix, found.autoencoder.linear) == (prefix, linear)
        assert not found.extra and found.prediction == "" and found.assumed == ()


def test_where_the_prediction_comes_from(tmp_path: Path) -> None:
    tensors = net_facts(SIZES_2, True)
    v = {"modelspec.prediction_type": "v"}

    def predicts(layout: Layout) -> tuple[str, bool]:
        return layout.prediction, bool(layout.assumed)

    assert predicts(detect(tensors)) == ("epsilon", True)
    assert "768" in detect(tensors).assumed[0]
    assert predicts(detect(tensors, v)) == ("v", False)
    assert predicts(detect(tensors, v, Said("epsilon"))) == ("epsilon", False)
    assert predicts(detect(tensors, {"modelspec.architecture": "stable-diffusion-v2-768-v"})) == ("v", False)
    assert predicts(detect(tensors | {"v_pred": fact(0), "ztsnr": fact(0)})) == ("v", False)
    assert detect(tensors | {"ztsnr": fact(0)}).zero_snr
    assert predicts(detect(tensors, config='model:\n  params:\n    parameterization: "v"\n')) == ("v", False)
    assert predicts(detect(tensors, config="model:\n  params:\n    parameterization: eps\n")) == ("epsilon", False)
    playground = detect(net_facts(SIZES_XL, True) | {"edm_mean": fact(4), "edm_std": fact(4)})
    assert (playground.title, playground.prediction, playground.extra) == (
        "Playground v2.5", "edm", ("edm_mean", "edm_std"),
    )  # fmt: skip
    cos = detect(net_facts(SIZES_XL, True) | {"edm_vpred.sigma_max": fact(), "edm_vpred.sigma_min": fact()})
    assert (cos.title, cos.prediction, len(cos.extra)) == ("CosXL", "edm_v", 2)
    with pytest.raises(UsageError, match="'x0'"):
        Said("x0")
    parts = small("SD2")
    path = write_single_file(tmp_path / "x.safetensors", parts, {"modelspec.prediction_type": "v"})
    again = write_single_file(tmp_path / "y.safetensors", read_parts(path))
    assert look(again).prediction == "v"
    assert look(path).prediction == "v"
    path.with_suffix(".yaml").write_text("parameterization: 'v'")
    save_file(load_file(path), path)  # without metadata
    assert look(path, Said(head_dim=4, groups=4)).prediction == "v"


def test_what_was_assumed_is_not_written_as_a_fact(tmp_path: Path) -> None:
    """A net in sizes of its own of which nothing says what it predicts: the copy does not say it either."""
    tensors = load_file(write_single_file(tmp_path / "1.safetensors", small("SD2")))
    save_file(tensors, tmp_path / "2.safetensors")
    told = Said(head_dim=4, groups=4, autoencoder_groups=4)
    read = read_parts(tmp_path / "2.safetensors", said=told)
    assert read.layout.prediction == "epsilon" and len(read.layout.assumed) == 1 and read.metadata == {}
    again = read_parts(write_single_file(tmp_path / "3.safetensors", read))
    assert again.layout == read.layout and set(again.metadata) == {"format", "huggingvis.untold"}
    assert len(look(tmp_path / "2.safetensors", Said("v", head_dim=4)).assumed) == 0


def test_files_of_other_things_are_refused_by_name() -> None:
    xl = net_facts(SIZES_XL, True)
    unclip = net_facts(replace(SIZES_2, vector_dim=2048), True)
    upscaler = net_facts(replace(SIZES_2, concat_channels=3, vector_dim=1000, vector_layers=1), True)
    net = "model.diffusion_model."
    other = {
        "Flux": {f"{net}double_blocks.0.img_attn.norm.key_norm.scale": fact(128)},
        "Stable Diffusion 3": {"joint_blocks.0.context_block.adaLN_modulation.1.bias": fact(9216)},
        "AnimateDiff": {"down_blocks.0.motion_modules.0.temporal_transformer.proj_in.weight": fact(320, 320)},
        "ControlNet": {"controlnet_cond_embedding.conv_in.weight": fact(16, 3, 3, 3)},
        "a LoRA": {"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": fact(4, 320)},
        "T2I-Adapter": {"body.0.resnets.0.block1.weight": fact(320, 320, 3, 3)},
        "IP-Adapter": {"ip_adapter.1.to_k_ip.weight": fact(320, 768)},
        "textual inversion": {"emb_params": fact(2, 768)},
        "PixArt": {"y_embedder.y_proj.fc1.weight": fact(1152, 4096)},
        "diffusers folder": {"down_blocks.0.resnets.0.conv1.weight": fact(320, 320, 3, 3)},
        "text tower": {"text_model.encoder.layers.0.mlp.fc1.weight": fact(3072, 768)},
        "codebook": {"first_stage_model.quantize.embedding.weight": fact(8192, 3)} | autoencoder_facts(),
        "their scales": xl | {f"{net}scaled_fp8": fact(0)},
        "unconditional": {f"{net}middle_block.1.qkv.weight": fact(3, 3, 1)},
        "unCLIP": unclip,
        "an upscaler": upscaler,
        "none of its 1": {"anything.weight": fact(3)},
        "pruned": {name: f for name, f in xl.items() if "output_blocks.0.1.transformer_blocks.9." not in name},
        "do not divide": net_facts(replace(SIZES_2, channels=(96, 96), attention=(0, 1), head_dim=32, groups=8), True),
    }
    bare = net_facts(SIZES_1, False, "") | {"input_hint_block.0.weight": fact(16, 3, 3, 3)}
    other |= {"a ControlNet": {name: f for name, f in bare.items() if not name.startswith("out")}}
    for word, tensors in other.items():
        with pytest.raises(FileProblem) as caught:
            detect(tensors)
        message = str(caught.value)
        assert word in message and "\n" not in message and len(message) < 600, (word, message)
    with pytest.raises(FileProblem, match="it holds no tensors"):
        detect({})


# ----------------------------------------------------------------------------------------------- damaged and hostile


def test_damaged_files_are_refused_before_a_net_is_filled(tmp_path: Path) -> None:
    parts = small("SD1")
    good = load_file(write_single_file(tmp_path / "good.safetensors", parts))
    told = Said(heads=2, groups=4, autoencoder_groups=4)
    path = tmp_path / "bad.safetensors"
    unet, vae = "model.diffusion_model.", "first_stage_model."

    def refused(change: dict[str, torch.Tensor | None], *words: str) -> None:
        tensors = {name: x for name, x in (good | change).items() if x is not None}
        save_file({name: x.contiguous() for name, x in tensors.items()}, path)
        with pytest.raises(FileProblem) as caught:
            read_parts(path, said=told)
        message = str(caught.value)
        for word in (path.name, *words):
            assert word in message and "\n" not in message and len(message) < 700, message

    refused({f"{unet}out.2.bias": None}, "1 missing", "out.2.bias")
    refused({f"{unet}time_embed.0.weight": torch.ones(3, 3)}, "1 of another shape", "[3, 3]")
    refused({f"{vae}decoder.up.1.attn.0.q.weight": torch.ones(3, 3)}, "1 unexpected", "attn.0")
    refused({f"{unet}input_blocks.0.0.weight": torch.ones(8, 4)}, "4 axes", "[8, 4]")
    refused({f"{unet}input_blocks.0.0.weight": torch.ones(8, 3, 3, 3)}, "sees 3 channels to predict 4")
    refused({f"{unet}input_blocks.2.0.in_layers.2.weight": torch.ones(9, 8, 3, 3)}, "level 0")
    refused({f"{unet}input_blocks.2.1.transformer_blocks.0.norm1.weight": None}, "level 0")
    refused({f"{unet}middle_block.1.transformer_blocks.0.attn2.to_k.weight": None}, "is not there")
    refused({f"{vae}decoder.conv_in.weight": None}, "decoder.conv_in.weight")
    refused({f"{vae}encoder.conv_in.weight": torch.ones(0, 3, 3, 3)}, "[0, 3, 3, 3]")
    with pytest.raises(FileProblem, match="groups"):
        read_parts(tmp_path / "good.safetensors", said=Said(groups=3))
    with pytest.raises(FileProblem, match=r"huggingvis\.untold"):
        detect({}, {"huggingvis.untold": '{"heads": "many"}'})
    with pytest.raises(FileProblem, match=r"huggingvis\.untold"):
        detect({}, {"huggingvis.untold": "[1"})
    with pytest.raises(FileProblem, match=r"huggingvis\.untold"):
        detect({}, {"huggingvis.untold": '{"head_dim": 0}'})


def test_what_has_no_names_there_is_not_written(tmp_path: Path) -> None:
    plain = UNet(UNetConfig(channels=(8, 16), attention=(0, 1), groups=4, blocks=1))
    text = UNetConfig(channels=(8, 16), attention=(0, 1), groups=4, blocks=1, tokens_dim=6)
    reading, other = UNet(replace(text, reads=(True, False))), UNet(replace(text, downsample_padding=0))
    folded = AutoencoderKL(AutoencoderConfig(channels=(8,), groups=4, patch=2, blocks=1))
    for wrong in (plain, reading, other):
        with pytest.raises(UsageError, match="no names"):
            parts_of(wrong)
    with pytest.raises(UsageError, match="no names"):
        parts_of(autoencoder=folded)
    with pytest.raises(UsageError, match="neither"):
        parts_of()
    parts = small("SD1")
    with pytest.raises(UsageError, match="safetensors"):
        write_single_file(tmp_path / "x.ckpt", parts)


# ------------------------------------------------------------------------------------------------ types and pickles


def test_types_on_the_way_in(tmp_path: Path) -> None:
    parts = small("SD1")
    parts.extra["betas"] = torch.rand(5, dtype=torch.float64)
    path = write_single_file(tmp_path / "x.safetensors", parts)
    cast = read_parts(path, dtype=torch.bfloat16)
    assert cast.unet and cast.autoencoder and parts.unet
    assert {x.dtype for net in (cast.unet, cast.autoencoder) for x in net.parameters()} == {torch.bfloat16}
    assert cast.extra["betas"].equal(parts.extra["betas"])
    for name, x in cast.unet.state_dict().items():
        assert x.equal(parts.unet.state_dict()[name].bfloat16())
    whole, metadata = load_file(path), read_parts(path).metadata
    eight = {name: x.to(torch.float8_e4m3fn) if x.ndim > 1 else x.half() for name, x in whole.items()}
    save_file(eight, path, metadata)
    small_one = read_parts(path)
    assert small_one.layout.eight_bit and small_one.unet
    assert {x.dtype for x in small_one.unet.parameters()} == {torch.bfloat16}


def test_a_lightning_checkpoint_is_read_as_it_is(tmp_path: Path) -> None:
    """`.ckpt` files of trainings: weights in `state_dict`, settings beside it, running averages within."""
    parts = small("SD1")
    path = write_single_file(tmp_path / "x.safetensors", parts)
    weights = load_file(path) | {"model_ema.decay": torch.tensor(0.9), "model_ema.num_updates": torch.tensor(3)}
    torch.save({"epoch": 1, "global_step": 7, "state_dict": weights}, tmp_path / "x.ckpt")
    read = read_parts(tmp_path / "x.ckpt", said=Said(heads=2, groups=4, autoencoder_groups=4))
    assert read.unet and parts.unet and read.layout.dropped == 2
    assert same_tensors(read.unet.state_dict(), parts.unet.state_dict())
    assert asdict(look(path))["prediction"] == "epsilon"


def test_attention_of_the_autoencoder_in_both_forms(tmp_path: Path) -> None:
    """Convolutions of size 1, or linear layers as in later files: the same net, and each is written back as it was."""
    parts = small("SD1")
    assert parts.autoencoder is not None
    wanted = parts_of(autoencoder=parts.autoencoder)
    conv = load_file(write_single_file(tmp_path / "conv.safetensors", wanted))
    linear = {name: x.flatten(1) if "attn_1" in name and x.ndim == 4 else x for name, x in conv.items()}
    metadata = read_parts(tmp_path / "conv.safetensors").metadata
    save_file(linear, tmp_path / "linear.safetensors", metadata)
    read = read_parts(tmp_path / "linear.safetensors")
    assert read.autoencoder and same_tensors(read.autoencoder.state_dict(), parts.autoencoder.state_dict())
    assert same_tensors(load_file(write_single_file(tmp_path / "again.safetensors", read)), linear)
    assert conv["first_stage_model.decoder.mid.attn_1.q.weight"].shape == (16, 16, 1, 1)
