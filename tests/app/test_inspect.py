"""`hvis inspect` on real files, on what our writers write, on files of every kind in full size, and on hostile ones."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import hub_server
import pytest
import torch
from hollow_files import hollow
from PIL import Image, PngImagePlugin
from refusals import refused
from safetensors.torch import save_file
from single_files import (
    REFINER,
    SIZES_1,
    SIZES_2,
    SIZES_XL,
    Facts,
    autoencoder_facts,
    clip,
    fact,
    net_facts,
    open_clip,
)

import huggingvis as hv
from huggingvis.checkpoints.bases import BASES, base_of, named_base
from huggingvis.checkpoints.formats import TensorFact
from huggingvis.checkpoints.kinds import kind_of, kinds
from huggingvis.checkpoints.report import hashes, misfit, report_of
from huggingvis.checkpoints.single_file_family import FOREIGN
from huggingvis.core.errors import HvisError

DATA = Path(os.environ.get("HUGGINGVIS_TESTDATA", "/nowhere"))
real = pytest.mark.skipif(not DATA.is_dir(), reason="HUGGINGVIS_TESTDATA names no folder")
LORA = "weights/lora/dog/pytorch_lora_weights.safetensors"


def told(path: Path | str, **how: Any) -> dict[str, Any]:
    return hv.inspect(path, **{"hashes": False, **how})


def sd(part: str = "", tokens: int = 768) -> Facts:
    """Names and shapes of a whole checkpoint of version 1, 2 or XL, as they are published."""
    if tokens == 768:
        return (
            net_facts(SIZES_1, False) | autoencoder_facts() | clip("cond_stage_model.transformer.text_model.", 768, 12)
        )
    if tokens == 1024:
        return net_facts(SIZES_2, True) | autoencoder_facts() | open_clip("cond_stage_model.model.", 1024, 23)
    towers = clip("conditioner.embedders.0.transformer.text_model.", 768, 12)
    towers |= open_clip("conditioner.embedders.1.model.", 1280, 32)
    return net_facts(SIZES_XL, True) | autoencoder_facts() | towers


def kohya(width: int, rank: int = 8, alpha: str = "F32", layers: int = 3, prefix: str = "lora_unet_") -> Facts:
    """A LoRA of kohya's spelling on some layers that read text."""
    out: Facts = {}
    for n in range(layers):
        layer = f"{prefix}down_blocks_{n}_attentions_0_transformer_blocks_0_attn2_to_k"
        out |= {f"{layer}.lora_down.weight": TensorFact("F16", (rank, width))}
        out |= {f"{layer}.lora_up.weight": TensorFact("F16", (320 << min(n, 2), rank))}
        out |= {f"{layer}.alpha": TensorFact(alpha, ())}
    return out


# ---- real files -----------------------------------------------------------------------------------------------------


@real
def test_the_real_lora(hvis: Any) -> None:
    said = hvis(["inspect", DATA / LORA])
    assert said.code == 0 and said.out.startswith(
        "pytorch_lora_weights.safetensors is a LoRA for Stable Diffusion 2 (text tokens 1024 wide). It is in the "
        "spelling of diffusers (attention processors) and changes U-Net: 128 layers, rank 4.\n"
    )
    assert "3.2 MiB, 829,952 numbers in fp32" in said.out
    data = (DATA / LORA).read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    known = hvis(["inspect", DATA / LORA, "--json"]).document["hashes"]
    assert known["sha256"] == hashlib.sha256(data).hexdigest() and known["short"] == known["sha256"][:10]
    assert known["addnet"] == hashlib.sha256(data[begin:]).hexdigest() and known["a1111"] == known["addnet"][:12]
    assert known["addnet"][:12] in said.out and "hash" not in hvis(["inspect", DATA / LORA, "--no-hash"]).out
    fits = {base: told(DATA / LORA, base=base)["fits"] for base in ("sd1", "sd2", "sdxl")}
    assert fits["sd2"] == {"base": "Stable Diffusion 2", "fits": True, "why": "All of its 128 changes apply."}
    assert (
        not fits["sd1"]["fits"] and "but the model is Stable Diffusion 1 (text tokens 768 wide)" in fits["sd1"]["why"]
    )
    assert not fits["sdxl"]["fits"] and "\n" not in fits["sdxl"]["why"]
    assert told((DATA / LORA).parent)["parts"]["unet"] == {"layers": 128, "ranks": {"4": 128}, "alphas": {}}


@real
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("textual_inversion/midjourney-style.bin", "a textual inversion for Stable Diffusion 2 (text tokens 1024 "
         "wide). 'midjourney-style' is 1 vector of width 1024 (clip_h). Call it in a prompt by its name: "
         "<midjourney-style>."),
        ("textual_inversion/test_embedding.safetensors", "a textual inversion for Stable Diffusion 1 (text tokens 768 "
         "wide). 'test_embedding' is 5 vectors of width 768 (clip_l)."),
    ],
)  # fmt: skip
def test_the_real_embeddings(hvis: Any, name: str, sentence: str) -> None:
    assert f"{Path(name).name} is {sentence}" in hvis(["inspect", DATA / "weights" / name]).out


@real
def test_the_other_real_weights_have_a_family_or_say_what_they_hold(hvis: Any) -> None:
    families = {
        "taef2/taef2_encoder.pth": "taef2", "taef2/taef2_decoder.pth": "taef2",
        "ddpm_mnist/ddpm_mnist_starter.pth": "ddpm_mnist",
        "mnist_vae/vae_epoch_25.pth": "mnist_vae", "mnist_gan_mlp/G--300.ckpt": "gan_mnist",
        "cifar10_autoencoder/cifar10_ae_128.safetensors": "cifar10_autoencoder",
        "mnist_flow/MNISTFlow_simple.ckpt": "mnist_flow", "mlsd/mlsd_tiny_512_fp32.pth": None,
        "lpips_v0.1/vgg.pth": None,
    }  # fmt: skip
    for name, family in families.items():
        found = told(DATA / "weights" / name)
        assert found["kind"] == "other" and found["numbers"] > 1000, name
        assert (found["family"] or "").replace("-", "_") == (family or ""), (name, found["family"])
        told_so = f"weights of {found['family']}, a family of this library" if family else "Its tensors are"
        assert told_so in found["summary"]
        draws = family in ("ddpm_mnist", "mnist_vae", "gan_mnist", "mnist_flow")
        assert ("`hvis generate --model FILE` draws by it" in found["summary"]) is draws, name
    with pytest.raises(HvisError, match="zip archive, but not of PyTorch weights"):
        told(DATA / "weights/mnist_vae/expected_first16_train.npz")


@real
def test_a_file_of_a_family_of_ours_draws_or_is_told_what_it_is_for(hvis: Any) -> None:
    weights = DATA / "weights"
    said = hvis(["generate", "--model", weights / "mnist_gan_mlp/G--300.ckpt", "--json"])
    assert said.code == 0 and len(said.document["pictures"]) == 1, said.err
    for file in ("mnist_vae/vae_epoch_25.pth", "mnist_flow/MNISTFlow_simple.ckpt", "ddpm_mnist/ddpm_mnist_starter.pth"):
        assert hv.load(weights / file, device="cpu").spec.size == (28, 28)
    assert hv.load(weights / "cifar10_autoencoder/cifar10_ae_128.safetensors", device="cpu").spec.size == (32, 32)
    (lenet,) = (weights / "mnist_classifier").glob("*.pth")
    refused(hvis(["generate", "--model", lenet]), 3, "digits judge", "hvis evaluate RUN --accuracy 1000 --judge FILE")
    vae = [weights / "mnist_vae/vae_epoch_25.pth", "--vae", weights / "taef2/taef2_decoder.pth"]
    refused(hvis(["generate", "--model", *vae]), 2, "leave out --vae")


@real
def test_the_real_configs(hvis: Any) -> None:
    said = hvis(["inspect", DATA / "configs/sd15"])
    assert "sd15 is Stable Diffusion 1 as a diffusers folder (StableDiffusionPipeline)." in said.out
    assert "There are no weights in unet, vae, text_encoder: only settings, so it cannot paint." in said.out
    assert "Its scheduler is PNDMScheduler, and the net predicts the noise (epsilon)." in said.out
    parts = {name: told(DATA / "configs/sd15" / name)["summary"] for name in ("unet", "vae", "text_encoder")}
    assert "a U-Net of Stable Diffusion 1 (text tokens 768 wide) by itself" in parts["unet"]
    assert "latents have 4 channels" in parts["vae"] and "CLIP ViT-L/14" in parts["text_encoder"]


@real
def test_a_lora_is_told_of_without_torch_and_quickly() -> None:
    program = (
        "import sys; from huggingvis.app.cli import main; code = main(sys.argv[1:]); "
        "print(code, sorted({'torch', 'numpy', 'transformers', 'diffusers', 'safetensors'} & set(sys.modules)))"
    )
    begin = time.process_time(), os.times().children_user
    done = subprocess.run([sys.executable, "-c", program, "inspect", DATA / LORA], capture_output=True, text=True)
    spent = os.times().children_user - begin[1]
    assert done.stdout.splitlines()[-1] == "0 []", done.stdout + done.stderr
    assert spent < 1.0, f"{spent:.2f} s of CPU"


# ---- kinds, in full size --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "kind", "title", "base"),
    [
        (lambda: sd(), "checkpoint", "Stable Diffusion 1, in one file", "sd1"),
        (lambda: sd(tokens=1024), "checkpoint", "Stable Diffusion 2, in one file", "sd2"),
        (lambda: sd(tokens=2048), "checkpoint", "Stable Diffusion XL, in one file", "sdxl"),
        (lambda: net_facts(REFINER, True) | autoencoder_facts(), "checkpoint",
         "Stable Diffusion XL refiner, a part of it", "refiner"),
        (lambda: net_facts(SIZES_1, False, ""), "unet", "Stable Diffusion 1, a part of it", "sd1"),
        (lambda: autoencoder_facts(""), "vae", "an autoencoder by itself", None),
        (lambda: {"quantize.embedding.weight": fact(9, 3), "decoder.conv_in.weight": fact(8, 3, 3, 3),
                  "encoder.down_blocks.0.resnets.0.conv1.weight": fact(8, 8, 3, 3),
                  "decoder.up_blocks.0.resnets.0.conv1.weight": fact(8, 8, 3, 3)},
         "vq-autoencoder", "an autoencoder with a codebook (VQ) by itself", None),
        (lambda: {"1.weight": fact(64, 4, 3, 3), "3.conv.0.weight": fact(64, 64, 3, 3), "3.conv.4.bias": fact(64),
                  "6.conv.0.weight": fact(64, 64, 3, 3)}, "tiny-vae", "a tiny preview decoder", None),
        (lambda: clip("text_model.", 768, 12), "text-encoder", "a text encoder by itself", None),
        (lambda: kohya(768), "lora", "a LoRA", "sd1"),
        (lambda: kohya(2048), "lora", "a LoRA", "sdxl"),
        (lambda: {"emb_params": fact(4, 1024)}, "embedding", "a textual inversion", "sd2"),
        (lambda: {"clip_l": fact(4, 768), "clip_g": fact(4, 1280)}, "embedding", "a textual inversion", "sdxl"),
        (lambda: {"double_blocks.0.img_attn.qkv.weight": fact(9, 3)}, "transformer", "Flux", None),
        (lambda: {"conv_first.weight": fact(64, 3, 3, 3)}, "upscaler", "an upscaler", None),
        (lambda: {"a": fact(3)}, "other", "a file of weights of a kind that is not known here", None),
        (dict, "other", "a file of weights of a kind that is not known here", None),
    ],
)  # fmt: skip
def test_kinds_are_told_from_names_and_shapes(
    make: Any, kind: str, title: str, base: str | None, tmp_path: Path
) -> None:
    path = hollow(tmp_path / "x.bin", make())  # the name tells nothing, or lies
    report = report_of(path)
    assert (report.kind.name, report.title) == (kind, title)
    assert report.told.base == (BASES[base] if base else None)
    assert json.loads(json.dumps(report.as_json()))["kind"] == kind
    assert "\n" not in report.summary and len(report.summary) < 700


def test_a_vq_autoencoder_of_diffusers_is_called_so(hvis: Any, tmp_path: Path) -> None:
    config = {"_class_name": "VQModel", "num_vq_embeddings": 512, "vq_embed_dim": None, "latent_channels": 4}
    (tmp_path / "vq").mkdir()
    (tmp_path / "vq/config.json").write_text(json.dumps(config))
    said = hvis(["inspect", tmp_path / "vq"]).out
    assert "vq is an autoencoder with a codebook (VQ) by itself. It has 512 codes of 4 numbers" in " ".join(
        said.split()
    )


def test_a_picture_by_the_name_of_weights_is_told_as_one(hvis: Any, tmp_path: Path) -> None:
    for ending, note in ((".safetensors", "It is a JPEG picture, though its name ends in .safetensors"), (".jpg", "")):
        picture = tmp_path / f"model{ending}"
        Image.new("RGB", (8, 8)).save(picture, "JPEG")
        said = " ".join(hvis(["inspect", picture]).out.split())
        assert "8x8 pixels" in said and ("note" in said.split() or not note) and note in said
        assert bool(told(picture)["notes"]) is bool(note), ending


def test_what_a_checkpoint_predicts_and_how_sure_that_is(tmp_path: Path) -> None:
    first = told(hollow(tmp_path / "a.safetensors", sd()))
    assert first["prediction"]["value"] == "epsilon" and first["prediction"]["sure"]
    second = told(hollow(tmp_path / "b.safetensors", sd(tokens=1024)))
    assert not second["prediction"]["sure"] and "Nothing in the file says what the net predicts" in second["summary"]
    said = told(hollow(tmp_path / "c.safetensors", sd(tokens=1024), {"modelspec.prediction_type": "v"}))
    assert said["prediction"]["value"] == "v" and said["prediction"]["sure"] and "It predicts v." in said["summary"]
    marked = told(hollow(tmp_path / "d.safetensors", sd(tokens=2048) | {"v_pred": fact(0), "ztsnr": fact(0)}))
    assert marked["prediction"] == {"value": "v", "sure": True, "zero terminal SNR": True}


@pytest.mark.parametrize(("channels", "words"), [(9, "Stable Diffusion 1 inpainting"), (8, "instruct-pix2pix")])
def test_variants_that_see_more(channels: int, words: str, tmp_path: Path) -> None:
    tensors = sd()
    tensors["model.diffusion_model.input_blocks.0.0.weight"] = fact(320, channels, 3, 3)
    found = told(hollow(tmp_path / "x.safetensors", tensors))
    assert words in found["title"] and found["channels"] == channels


def test_every_kind_has_its_place_and_every_foreign_name_exists() -> None:
    ranks = [kind.rank for kind in kinds()]
    assert len(set(ranks)) == len(ranks) and kinds()[-1].name == "other"
    assert len({kind.name for kind in kinds()}) == len(kinds()) >= 15
    assert {"a LoRA", "a ControlNet", "a text tower", "an upscaler"} <= {row.what for row in FOREIGN}
    assert [base_of(*sizes).name for sizes in ((1280, 2560), (1280, 0), (768, 0))] == [
        "Stable Diffusion XL refiner", "latent diffusion with BERT", "Stable Diffusion 1",
    ]  # fmt: skip


# ---- adapters -------------------------------------------------------------------------------------------------------

NOTES = {
    "ss_network_dim": "8", "ss_network_alpha": "4.0", "ss_sd_model_name": "v1-5-pruned.ckpt", "ss_clip_skip": "2",
    "ss_num_train_images": "40", "ss_steps": "1200", "ss_learning_rate": "0.0001", "ss_optimizer": "AdamW8bit",
    "ss_v_parameterization": "None", "ss_training_finished_at": "1700000000.5", "ss_output_name": "sks",
    "ss_tag_frequency": json.dumps({"10_sks dog": {"sks dog": 40, "grass": 7}, "1_reg": {"grass": 5}}),
    "modelspec.trigger_phrase": "sks dog", "modelspec.license": "CreativeML Open RAIL-M", "sshs_model_hash": "ab" * 32,
}  # fmt: skip


def test_what_kohya_writes_is_sorted_for_a_reader(hvis: Any, tmp_path: Path) -> None:
    tensors = {name: torch.zeros(fact.shape).half() for name, fact in kohya(768).items()}
    tensors |= {name: torch.tensor(4.0) for name in tensors if name.endswith(".alpha")}
    save_file(tensors, tmp_path / "sks.safetensors", NOTES)
    said = hvis(["inspect", tmp_path / "sks.safetensors"]).out
    assert "is a LoRA for Stable Diffusion 1 (text tokens 768 wide)" in said and "3 layers, rank 8, alpha 4." in said
    assert "trigger       sks dog" in said and "tags          sks dog (40), grass (12)" in said
    assert "licence       CreativeML Open RAIL-M" in said and "abababababab in A1111" in said
    found = told(tmp_path / "sks.safetensors", hashes=True)
    assert found["training"]["made from"] == {"base": "v1-5-pruned.ckpt", "clip skip": "2"}
    assert found["training"]["named"]["date"] == "2023-11-14" and found["training"]["training"]["steps"] == "1200"
    assert found["parts"]["unet"] == {"layers": 3, "ranks": {"8": 3}, "alphas": {"4": 3}}
    assert found["hashes"]["a1111"] == "ab" * 6 and found["metadata"]["ss_output_name"] == "sks"


@pytest.mark.parametrize("kind", ["F16", "BF16", "F32", "F64"])
def test_alphas_are_read_in_every_type(kind: str, tmp_path: Path) -> None:
    dtype = {"F16": torch.half, "BF16": torch.bfloat16, "F32": torch.float, "F64": torch.double}[kind]
    tensors = {name: torch.zeros(fact.shape) for name, fact in kohya(768).items()}
    tensors |= {name: torch.tensor(2.5, dtype=dtype) for name in tensors if name.endswith(".alpha")}
    save_file(tensors, tmp_path / "x.safetensors")
    torch.save(tensors, tmp_path / "x.pt")
    for name in ("x.safetensors", "x.pt"):
        assert told(tmp_path / name)["parts"]["unet"]["alphas"] == {"2.5": 3}


@pytest.mark.parametrize(
    ("leaves", "method"),
    [
        ({"hada_w1_a": (9, 4), "hada_w1_b": (4, 768), "hada_w2_a": (9, 4), "hada_w2_b": (4, 768)}, "LoHa"),
        ({"lokr_w1": (3, 4), "lokr_w2": (3, 192)}, "LoKr"),
        ({"lora_down.weight": (4, 768), "lora_up.weight": (9, 4), "dora_scale": (9, 1)}, "DoRA"),
        ({"diff": (9, 768)}, "full differences"),
    ],
)
def test_methods(leaves: dict[str, tuple[int, ...]], method: str, tmp_path: Path) -> None:
    layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_v"
    found = told(hollow(tmp_path / "x", {f"{layer}.{leaf}": fact(*shape) for leaf, shape in leaves.items()}))
    assert (found["kind"], found["base"]) == ("lora", "Stable Diffusion 1") and method in found["title"]


def test_other_methods_are_refused_by_name(tmp_path: Path) -> None:
    report = report_of(hollow(tmp_path / "x", {"oft_unet_mid_block.oft_blocks": fact(4, 8, 8)}))
    assert report.kind.name == "lora" and "OFT" in report.summary and "OFT" in str(misfit(report, BASES["sd1"]))


def test_loras_of_towers_alone_and_of_other_families(tmp_path: Path) -> None:
    def of(layer: str, width: int) -> str | None:
        leaves = {f"{layer}.lora_down.weight": fact(4, width), f"{layer}.lora_up.weight": fact(9, 4)}
        return told(hollow(tmp_path / "x", leaves))["base"]

    attention = "text_model_encoder_layers_0_self_attn_q_proj"
    assert (
        of(f"lora_te_{attention}", 768) == "Stable Diffusion 1"
        and of(f"lora_te_{attention}", 1024) == "Stable Diffusion 2"
    )
    assert of(f"lora_te2_{attention}", 1280) == "Stable Diffusion XL" and of(f"lora_te1_{attention}", 768) is None
    assert of("lora_unet_double_blocks_0_img_attn_proj", 3072) == "Flux"
    assert "a LoRA for Flux, but the model is Stable Diffusion 1" in str(
        misfit(report_of(tmp_path / "x"), BASES["sd1"])
    )
    assert misfit(report_of(hollow(tmp_path / "y", sd())), BASES["sd1"]) is not None  # a model is put on nothing


@pytest.mark.parametrize(("legacy", "parameters"), [(False, False), (False, True), (True, False)])
def test_embeddings_of_a1111(legacy: bool, parameters: bool, tmp_path: Path) -> None:
    table: Any = {"*": torch.randn(3, 768)}
    table = torch.nn.ParameterDict(table) if parameters else table
    content = {"string_to_token": {"*": torch.tensor(265)}, "string_to_param": table, "name": "cat", "step": 500}
    torch.save(content, tmp_path / "cat.pt", _use_new_zipfile_serialization=not legacy)
    found = told(tmp_path / "cat.pt")
    assert (found["kind"], found["base"], found["triggers"]) == ("embedding", "Stable Diffusion 1", ["cat"])


def test_a_png_with_an_embedding_is_one_and_others_are_pictures(hvis: Any, tmp_path: Path) -> None:
    numbers = {"string_to_param": {"*": {"TORCHTENSOR": [[0.5] * 768] * 2}}, "name": "inside"}
    info = PngImagePlugin.PngInfo()
    info.add_text("sd-ti-embedding", base64.b64encode(json.dumps(numbers).encode()).decode())
    Image.new("RGB", (64, 64), (200, 100, 50)).save(tmp_path / "card.png", pnginfo=info)
    Image.new("RGB", (64, 64), (200, 100, 50)).save(tmp_path / "plain.safetensors", "PNG")
    said = hvis(["inspect", tmp_path / "card.png"])
    assert "card.png is a textual inversion in a picture for Stable Diffusion 1 (text tokens 768 wide)." in said.out
    assert kind_of(tmp_path / "plain.safetensors").name == "picture"


def test_controls(tmp_path: Path) -> None:
    prefix = "control_model."
    leaves = {
        f"{prefix}input_hint_block.0.weight": fact(16, 3, 3, 3),
        f"{prefix}zero_convs.0.0.weight": fact(320, 320, 1, 1),
    }
    key = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    for width, base in ((768, "sd1"), (1024, "sd2"), (2048, "sdxl")):
        report = report_of(hollow(tmp_path / "x", leaves | {prefix + key: fact(320, width)}))
        assert report.kind.name == "controlnet" and report.told.base == BASES[base]
        assert misfit(report, BASES[base]) is None and "It reads pictures of 3 channels" in report.summary
        other = str(misfit(report, BASES["refiner"]))
        assert f"is a ControlNet for {BASES[base]}, but the model is {BASES['refiner']}" in other
    lora = report_of(hollow(tmp_path / "y", {"lora_controlnet": fact(1), **leaves}))
    assert lora.kind.name == "controlnet" and "ControlLoRA" in lora.summary and misfit(lora, BASES["sd1"])
    names = {f"ip_adapter.{n}.to_{x}_ip.weight": fact(320, 2048) for n in (1, 3) for x in "kv"}
    names |= {"image_proj.proj.weight": fact(8192, 1280), "image_proj.norm.weight": fact(2048)}
    ip = report_of(hollow(tmp_path / "z", names))
    assert (ip.kind.name, ip.told.base) == ("ip-adapter", BASES["sdxl"]) and "of the base form" in ip.summary
    for width, base in ((192, "sd1"), (768, "sdxl")):
        rows = {"conv_in.weight": fact(320, width, 3, 3)}
        rows |= {f"body.{n}.block1.weight": fact(320, 320, 3, 3) for n in range(8)}
        t2i = report_of(hollow(tmp_path / "t", rows))
        assert t2i.kind.name == "t2i-adapter" and misfit(t2i, BASES[base]) is None
        assert misfit(t2i, BASES["sd1" if base == "sdxl" else "sdxl"])


def test_a_base_may_be_a_model_that_is_here(hvis: Any, tmp_path: Path) -> None:
    model = hollow(tmp_path / "model.safetensors", sd())
    layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    strange = "lora_unet_mid_block_attentions_7_proj_in"
    rows = {f"{at}.lora_{way}.weight": torch.ones(shape) for at, sizes in ((layer, (768, 1280)), (strange, (320, 320)))
            for way, shape in (("down", (4, sizes[0])), ("up", (sizes[1], 4)))}  # fmt: skip
    save_file(rows, tmp_path / "lora.safetensors")
    said = hvis(["inspect", tmp_path / "lora.safetensors", "--for", model])
    assert "1 of 2 changes apply; left out are 1 for layers that the unet here does not have" in " ".join(
        said.out.split()
    )
    refused(hvis(["inspect", tmp_path / "lora.safetensors", "--for", "sd9"]), 2, "sd9", "sd1")
    for word, base in (("SD15", "sd1"), ("stable-diffusion-v1-5", "sd1"), ("SD 2.1", "sd2"), ("XL", "sdxl")):
        assert named_base(word) == named_base(base) is not None
    assert named_base("sd9") is None and named_base("model.safetensors") is None
    refused(hvis(["inspect", model, "--for", tmp_path / "lora.safetensors"]), 2, "not a model")


# ---- folders and hubs -----------------------------------------------------------------------------------------------


def test_a_diffusers_folder_tells_its_parts_variants_and_licence(hvis: Any, tmp_path: Path) -> None:
    folder = tmp_path / "pipe"
    for name in ("unet", "vae", "scheduler"):
        (folder / name).mkdir(parents=True)
    index = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"],
             "vae": ["diffusers", "AutoencoderKL"], "scheduler": ["diffusers", "DDIMScheduler"]}  # fmt: skip
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "unet/config.json").write_text(json.dumps({"cross_attention_dim": 1024, "in_channels": 9}))
    (folder / "scheduler/scheduler_config.json").write_text(
        json.dumps({"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"})
    )
    (folder / "README.md").write_text("---\nlicense: openrail++\ntags:\n- x\n---\n# Model\n")
    hollow(folder / "unet/diffusion_pytorch_model.fp16.safetensors", {"a": TensorFact("F16", (10, 10))})
    hollow(folder / "unet/diffusion_pytorch_model-00001-of-00002.safetensors", {"a": TensorFact("F32", (10, 10))})
    hollow(folder / "unet/diffusion_pytorch_model-00002-of-00002.safetensors", {"b": TensorFact("F32", (10, 10))})
    said = hvis(["inspect", folder])
    assert "pipe is Stable Diffusion 2 for inpainting (it sees 9 channels) as a diffusers folder" in said.out
    assert "the net predicts v." in said.out and "licence       openrail++" in said.out
    assert "There are no weights in vae" in said.out and "stored in fp16 and fp32" not in said.out
    weights = told(folder)["parts"]["unet"]["weights"]
    assert weights["main, safetensors"]["numbers"] == 200 and weights["fp16, safetensors"]["dtypes"] == ["F16"]


def test_infinite_settings_are_told_in_json(hvis: Any, tmp_path: Path) -> None:
    """DPM-Solver's usual setting; JSON has no infinity."""
    (tmp_path / "pipe/scheduler").mkdir(parents=True)
    index = {"_class_name": "StableDiffusionPipeline", "scheduler": ["diffusers", "DPMSolverMultistepScheduler"]}
    (tmp_path / "pipe/model_index.json").write_text(json.dumps(index))
    (tmp_path / "pipe/scheduler/scheduler_config.json").write_text('{"lambda_min_clipped": -Infinity}')
    said = hvis(["inspect", tmp_path / "pipe", "--json"])
    assert said.document["scheduler"] == {"lambda_min_clipped": "-inf"}


def test_a_codebook_of_another_shape_is_none(hvis: Any, tmp_path: Path) -> None:
    names = ("quantize.embedding.weight", "decoder.up_blocks.0.resnets.0.conv1.weight")
    hollow(tmp_path / "odd.safetensors", {name: TensorFact("F32", (4,)) for name in names})
    said = hvis(["inspect", tmp_path / "odd.safetensors"])
    assert said.code == 0 and "codes of" not in said.out


def test_a_model_at_a_hub_is_told_of_from_afar(hvis: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    lora = hollow(tmp_path / "lora", kohya(2048, layers=60)).read_bytes()
    index = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    with hub_server.running() as hub:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        hub.models["maker/lora"] = {"README.md": b"---\nlicense: mit\n---\n", "x.safetensors": lora}
        hub.models["maker/pipe"] = {
            "model_index.json": json.dumps(index).encode(), "unet/config.json": b'{"cross_attention_dim": 768}',
            "unet/diffusion_pytorch_model.safetensors": bytes(300_000),
        }  # fmt: skip
        said = hvis(["inspect", "maker/lora"])
        assert said.code == 0 and "x.safetensors is a LoRA for Stable Diffusion XL" in said.out
        assert "licence       mit" in said.out
        asked = [a.headers.get("Range", a.headers.get("range")) for a in hub.files("x.safetensors")]
        assert asked and "bytes=0-7" in asked and None not in asked, asked
        document = hvis(["inspect", "maker/lora", "--json"]).document
        assert document["sha256"] == hashlib.sha256(lora).hexdigest() and document["bytes"] == len(lora)
        pipe = hvis(["inspect", "maker/pipe", "--json"]).document
        assert pipe["base"] == "Stable Diffusion 1"
        assert pipe["parts"]["unet"]["weights"] == {"main, safetensors": {"bytes": 300_000}}
        assert not hub.files("diffusion_pytorch_model.safetensors")
        hub.fail("x.safetensors", hub_server.Fault(whole=True), 2)
        assert hvis(["inspect", "maker/lora"]).out == said.out
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        away = hvis(
            ["inspect", "maker/other"]
        )  # the server, on whom a reader of a header hangs up, may say so there too
        assert away.code == 3 and "HF_HUB_OFFLINE" in away.err and "maker/other" in away.err


# ---- hostile files --------------------------------------------------------------------------------------------------


def test_damage_is_said_in_a_paragraph(hvis: Any, tmp_path: Path) -> None:
    whole = hollow(tmp_path / "whole.safetensors", kohya(768)).read_bytes()
    for name, data, word in (
        ("cut.safetensors", whole[:-100], "cut short"), ("head.safetensors", whole[:40], "cut short"),
        ("empty.safetensors", b"", "empty"), ("page.safetensors", b"<html>login</html>", "web page"),
        ("huge.safetensors", (1 << 60).to_bytes(8, "little") + b'{"a": 1}', "exhaust memory"),
        ("zip.ckpt", b"PK\x03\x04" + bytes(90), "cut short"), ("pickle.pt", b"\x80\x02cos\nsystem\n", "refused"),
        ("words.txt", b"just words, nothing more", "not a checkpoint"), ("image.png", b"\x89PNG\r\n\x1a\n", "picture"),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(data)
        refused(hvis(["inspect", tmp_path / name]), 3, name, word)
    refused(hvis(["inspect", tmp_path / "nothing"]), 3, "nothing")


CONTROL = {"control_model.input_hint_block.0.weight": fact(16, 3, 3, 3),
           "control_model.zero_convs.0.0.weight": fact(3, 3),
           "control_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": fact(320, 768)}  # fmt: skip
T2I = {"conv_in.weight": fact(32, 192, 3, 3)} | {f"body.{n}.block1.weight": fact(32, 32, 3, 3) for n in range(8)}
IP = {f"ip_adapter.{n}.to_{x}_ip.weight": fact(32, 768) for n in (1, 3) for x in "kv"} | {
    "image_proj.proj.weight": fact(3072, 1024), "image_proj.norm.weight": fact(768)
}  # fmt: skip


@pytest.mark.parametrize("tensors", [
    kohya(768), CONTROL, T2I, IP, {"clip_l": fact(4, 768), "clip_g": fact(4, 1280)},
    {f"text_model.{name}": x for name, x in clip("", 768, 2).items()},
    {name: x for name, x in net_facts(SIZES_1, False).items() if "output_blocks" not in name},
], ids=["lora", "controlnet", "t2i", "ip", "embedding", "tower", "unet"])  # fmt: skip
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_headers_that_make_no_sense_are_told_of_or_refused_in_words(tensors: Facts, tmp_path: Path) -> None:
    dice = random.Random(0)
    for _ in range(40):
        broken = dict(tensors)
        for name in dice.sample(sorted(broken), min(3, len(broken))):
            old = broken.pop(name)
            shape = dice.choice([(), (0,), (1,), (3, 3), (2, 2, 2, 2), (1, 1, 1, 1, 1), old.shape[::-1]])
            other = dice.choice([name, name.replace("0", "x"), name.replace("1", "99"), name[:-3], f"{name}.alpha"])
            broken[other] = TensorFact(dice.choice(["F16", "I64", "BOOL"]), tuple(shape))
        try:
            report = report_of(hollow(tmp_path / "x", broken))
            json.dumps(report.as_json(), allow_nan=False)
            misfit(report, BASES["sdxl"])
        except HvisError as error:
            assert "\n" not in str(error) and len(str(error)) < 800


def test_a_folder_of_downloads_says_what_lists_it(hvis: Any, tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    loose.mkdir()
    refused(hvis(["inspect", loose]), 3, "is no model", "It is empty")
    for name in "abcd":
        hollow(loose / f"{name}.safetensors", kohya(768))
    refused(
        hvis(["inspect", loose]), 3, "a.safetensors, b.safetensors, c.safetensors and 1 more", "models list --models"
    )
    assert report_of(loose).title == "a folder that is no model"


def test_folders_that_lie(hvis: Any, tmp_path: Path) -> None:
    for text, word in (("[1]", "JSON object"), ("{", "parse"), ("[" * 100_000, "parse")):
        (tmp_path / "model_index.json").write_text(text)
        refused(hvis(["inspect", tmp_path]), 3, "model_index.json", word)
    (tmp_path / "model_index.json").write_text(
        json.dumps({"_class_name": ["x"], "unet": [3, None], "../a": ["b", "c"]})
    )
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet/config.json").write_text('{"cross_attention_dim": "wide", "in_channels": []}')
    assert hvis(["inspect", tmp_path]).code == 0


def test_a_strangers_words_do_not_reach_the_terminal_as_they_are(hvis: Any, tmp_path: Path) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07" + "x" * 100_000
    metadata = {
        "modelspec.trigger_phrase": evil,
        "ss_tag_frequency": "{" * 9999,
        "modelspec.license": evil,
        "ss_steps": evil,
    }
    path = hollow(tmp_path / "x.safetensors", kohya(768) | {f"{evil[:40]}\x1b": fact(2)}, metadata)
    said = hvis(["inspect", path])
    assert said.code == 0 and "\x1b" not in said.out and len(said.out) < 8000
    assert told(path)["metadata"] == metadata  # programs get what is there, JSON-escaped


def test_other_programs_files_are_found_by_name(hvis: Any, tmp_path: Path) -> None:
    folder = tmp_path / "webui/models/Lora"
    folder.mkdir(parents=True)
    hollow(folder / "style.safetensors", kohya(768))
    said = hvis(["inspect", "style", "--models", tmp_path / "webui"])
    assert "style.safetensors is a LoRA for Stable Diffusion 1" in said.out
    refused(hvis(["inspect", "styles", "--models", tmp_path / "webui"]), 3, "styles")


def test_hashes_of_checkpoints_are_the_files_own(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"emb_params": torch.ones(2, 768)}, path, {"sshs_model_hash": "12" * 32})
    whole = hashlib.sha256(path.read_bytes()).hexdigest()
    assert hashes(report_of(path))["a1111"] == whole[:12]  # kohya's note is heeded of LoRAs alone
    assert kind_of(path).name == "embedding"
