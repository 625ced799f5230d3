"""Models of A1111, Forge and ComfyUI are found where they lie; and which of a repository's files are needed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from huggingvis.checkpoints.hub_files import needed
from huggingvis.checkpoints.local_folders import KINDS, find, listed
from huggingvis.checkpoints.local_models import matching, overview
from huggingvis.checkpoints.resolve import resolve
from huggingvis.core.errors import FileProblem, HvisError, UsageError

A1111 = (
    "models/Stable-diffusion/v1-5-pruned-emaonly.safetensors", "models/Stable-diffusion/sub/anything.v3.ckpt",
    "models/Stable-diffusion/anything.vae.pt.part", "models/Stable-diffusion/Put Stable Diffusion checkpoints here.txt",
    "models/VAE/vae-ft-mse-840000.ckpt", "models/VAE/vae-ft-mse-840000.safetensors",
    "models/Lora/add_detail.safetensors",
    "models/Lora/style/ink.safetensors", "models/LyCORIS/loha.pt", "models/ControlNet/control_v11p_sd15_canny.pth",
    "models/ControlNet/control_v11p_sd15_canny.yaml", "embeddings/EasyNegative.pt", "embeddings/card.png",
    "models/ESRGAN/x4.pth", "webui.py",
)  # fmt: skip
COMFY = (
    "models/checkpoints/sd_xl_base_1.0.safetensors", "models/loras/add_detail.safetensors", "models/vae/put_vae_here",
    "models/text_encoders/t5xxl_fp16.safetensors", "models/clip/clip_l.safetensors", "models/unet/flux.gguf",
    "models/diffusers/mine/model_index.json", "models/diffusers/mine/unet/diffusion_pytorch_model.safetensors",
    "models/clip_vision/h.safetensors", "models/embeddings/bad.pt",
)  # fmt: skip


def made(root: Path, names: Sequence[str]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"weights")
    return root


@pytest.fixture
def a1111(tmp_path: Path) -> Path:
    return made(tmp_path / "webui", A1111)


@pytest.fixture
def comfy(tmp_path: Path) -> Path:
    return made(tmp_path / "comfy", COMFY)


def names(kind: str, *roots: Path) -> list[str]:
    return [model.name for model in listed(kind, roots)]


# ---- folders as programs make them ----------------------------------------------------------------------------------


def test_each_kind_is_listed_from_its_folders(a1111: Path, comfy: Path) -> None:
    assert names("checkpoint", a1111) == ["v1-5-pruned-emaonly.safetensors", "sub/anything.v3.ckpt"]
    assert names("lora", a1111, comfy) == ["add_detail.safetensors", "style/ink.safetensors", "loha.pt",
                                           "add_detail.safetensors"]  # fmt: skip
    assert names("vae", a1111) == ["vae-ft-mse-840000.ckpt", "vae-ft-mse-840000.safetensors"]
    assert names("embedding", a1111, comfy) == ["EasyNegative.pt", "card.png", "bad.pt"]
    assert names("controlnet", a1111) == ["control_v11p_sd15_canny.pth"]
    assert names("checkpoint", comfy) == ["sd_xl_base_1.0.safetensors", "mine"]
    assert names("text-encoder", comfy) == ["t5xxl_fp16.safetensors", "clip_l.safetensors"]
    assert names("checkpoint", a1111 / "models") == names("checkpoint", a1111)  # the models folder itself, too
    assert sum(len(listed(kind, [a1111, a1111])) for kind in KINDS) == sum(len(names(kind, a1111)) for kind in KINDS)


def test_a_plain_folder_holds_models_of_every_kind(tmp_path: Path) -> None:
    plain = made(tmp_path / "mine", ["x.safetensors", "deep/y.pt", ".hidden/z.pt", "notes.txt"])
    assert names("lora", plain) == names("vae", plain) == ["x.safetensors", "deep/y.pt"]


def test_links_are_followed_and_circles_are_not(a1111: Path, tmp_path: Path) -> None:
    elsewhere = made(tmp_path / "disk", ["far.safetensors"])
    os.symlink(elsewhere, a1111 / "models" / "Lora" / "linked")
    os.symlink(a1111 / "models" / "Lora", a1111 / "models" / "Lora" / "circle")
    found = names("lora", a1111)
    assert "linked/far.safetensors" in found and len(found) == len(set(found)) == 4


@pytest.mark.parametrize(
    ("name", "kind", "path"),
    [
        ("v1-5-pruned-emaonly", "checkpoint", A1111[0]),
        ("v1-5-pruned-emaonly.safetensors [6ce0161689]", "checkpoint", A1111[0]),
        ("V1-5-Pruned-EmaOnly", "checkpoint", A1111[0]),
        ("anything.v3", "checkpoint", A1111[1]),
        ("sub\\anything.v3.ckpt", "checkpoint", A1111[1]),
        ("vae-ft-mse-840000", "vae", A1111[5]),
        ("vae-ft-mse-840000.ckpt", "vae", A1111[4]),
        ("ink", "lora", A1111[7]),
        ("loha", "lora", A1111[8]),
        ("card", "embedding", A1111[12]),
    ],
)
def test_names_as_people_say_them(a1111: Path, name: str, kind: str, path: str) -> None:
    assert find(name, kind, [a1111]) == a1111 / path


def test_the_first_root_wins_and_two_of_one_name_are_asked_about(a1111: Path, comfy: Path) -> None:
    assert find("add_detail", "lora", [comfy, a1111]) == comfy / "models/loras/add_detail.safetensors"
    assert find("add_detail", "lora", [a1111, comfy]) == a1111 / "models/Lora/add_detail.safetensors"
    made(a1111, ["models/Lora/other/ink.safetensors"])
    with pytest.raises(UsageError, match="other/ink.safetensors, style/ink.safetensors. Say which"):
        find("ink", "lora", [a1111])
    assert find("other/ink", "lora", [a1111]).parent.name == "other"


def test_a_miss_names_the_nearest_or_the_right_kind(a1111: Path) -> None:
    with pytest.raises(UsageError, match=r"no LoRA called 'ad_detail'. Did you mean 'add_detail'.*list --kind lora"):
        find("ad_detail", "lora", [a1111])
    with pytest.raises(UsageError, match="'add_detail' is here as a LoRA, not as a checkpoint"):
        find("add_detail", "checkpoint", [a1111])
    with pytest.raises(UsageError, match="kind of model called 'Loras'. Did you mean 'lora'"):
        find("x", "Loras", [a1111])
    with pytest.raises(FileProblem, match="no folder .*nowhere, which was named as a place of models"):
        find("x", "lora", [a1111 / "nowhere"])


# ---- extra_model_paths.yaml -----------------------------------------------------------------------------------------


def test_extra_model_paths_as_comfyui_reads_them(a1111: Path, comfy: Path, tmp_path: Path) -> None:
    shared = made(tmp_path / "shared", ["ckpt/shared.safetensors", "l/one.safetensors"])
    (comfy / "extra_model_paths.yaml").write_text(
        f"""#config for a1111 ui
a111:
    base_path: {a1111}/

    checkpoints: models/Stable-diffusion
    configs: models/Stable-diffusion
    loras: |
         models/Lora
         models/LyCORIS
    embeddings: embeddings
other_ui:
    base_path: ../shared
    is_default: true
    checkpoints:
        - ckpt
    loras: {shared}/l
#comfyui:
empty:
"""
    )
    assert names("checkpoint", comfy) == ["sd_xl_base_1.0.safetensors", "mine", "shared.safetensors",
                                          "v1-5-pruned-emaonly.safetensors", "sub/anything.v3.ckpt"]  # fmt: skip
    file = comfy / "extra_model_paths.yaml"
    assert names("lora", file) == ["one.safetensors", "add_detail.safetensors", "style/ink.safetensors", "loha.pt"]
    assert find("ink", "lora", [comfy]) == a1111 / "models/Lora/style/ink.safetensors"
    file.write_text("base_path: ../webui\nvae: models/VAE\n")  # without a section, as people write it
    assert names("vae", file) == ["vae-ft-mse-840000.ckpt", "vae-ft-mse-840000.safetensors"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: [", "does not parse"),
        ("a:\n  x: !!python/object/apply:os.system ['true']", "does not parse"),
        ("- a", "should hold sections"),
        ("a:\n  loras: 7", "'loras' should be a path"),
        ("a:\n  loras: " + "x" * (1 << 20), "too long"),
    ],
)
def test_a_file_of_paths_that_is_none_is_explained(tmp_path: Path, text: str, fault: str) -> None:
    file = tmp_path / "extra_model_paths.yaml"
    file.write_text(text)
    with pytest.raises(FileProblem, match=fault):
        listed("lora", [file])


# ---- a name of any kind ---------------------------------------------------------------------------------------------


def test_a_path_comes_before_a_root_and_a_root_before_a_hub(a1111: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(made(a1111.parent / "here", ["ink", "owner/file.txt"]))
    assert resolve("ink", [a1111], kind="lora") == Path("ink")
    assert resolve("style/ink", [a1111], kind="lora") == a1111 / "models/Lora/style/ink.safetensors"
    for name in ("owner/none", "runs/none", "./maker/none"):
        with pytest.raises(UsageError, match="no model or run folder called"):
            resolve(name, [a1111])
    for name in ("maker/none", "hf:runs/none", "modelscope:maker/none"):
        with pytest.raises(FileProblem, match="HF_HUB_OFFLINE forbids the network"):
            resolve(name, [a1111])
    with pytest.raises(UsageError, match="Did you mean 'tiny'"):
        resolve("tinny", [a1111], known=["tiny"])


def test_the_command_line_finds_and_lists_them(hvis: Any, a1111: Path, tmp_path: Path) -> None:
    found = hvis(["models", "find", "ink", "--kind", "lora", "--models", a1111, "--json"])
    assert found.document["path"] == str(a1111 / A1111[7])
    said = hvis(["models", "find", "ink", "--kind", "lora"])
    assert said.code == 2 and "Say where models of other programs lie" in said.paragraph
    (tmp_path / "config.toml").write_text(f'models = ["{a1111}"]\n')
    told = hvis(["models", "list", "--kind", "checkpoint", "--json"]).document
    assert [m["name"] for m in told["models"]] == ["v1-5-pruned-emaonly.safetensors", "sub/anything.v3.ckpt"]
    assert len(hvis(["models", "list", "--json"]).document["others"]["lora"]) == 3
    said = hvis(["generate", "a fox", "--model", "add_detail"])
    assert said.code == 2 and "is here as a LoRA, not as a checkpoint" in said.paragraph


# ---- which files of a repository are needed -------------------------------------------------------------------------

UNET = "unet/diffusion_pytorch_model"
SD = ["model_index.json", "README.md", "v1-5-pruned.ckpt", "v1-5-pruned.safetensors", "unet/config.json",
      f"{UNET}.bin", f"{UNET}.fp16.bin", f"{UNET}.fp16.safetensors", f"{UNET}.non_ema.safetensors",
      f"{UNET}.safetensors",
      "text_encoder/config.json", "text_encoder/model.safetensors", "text_encoder/pytorch_model.bin",
      "text_encoder/flax_model.msgpack", "text_encoder/openvino_model.bin", "text_encoder/model.onnx",
      "vae/config.json", "vae/diffusion_pytorch_model.bin", "vae/diffusion_pytorch_model.fp16.bin",
      "tokenizer/vocab.json", "tokenizer/merges.txt", "scheduler/scheduler_config.json",
      "safety_checker/model.safetensors",
      "feature_extractor/preprocessor_config.json", "vae_decoder/model.onnx"]  # fmt: skip
INDEX = {"_class_name": "StableDiffusionPipeline", "requires_safety_checker": True,
         **{part: ["diffusers", "X"] for part in ("unet", "text_encoder", "vae", "tokenizer", "scheduler",
                                                  "safety_checker", "feature_extractor")},
         "image_encoder": [None, None]}  # fmt: skip
SHARDS = ["config.json", *(f"diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)),
          "diffusion_pytorch_model.safetensors.index.json",
          *(f"diffusion_pytorch_model.fp16-0000{i}-of-00002.safetensors" for i in (1, 2)),
          "diffusion_pytorch_model.safetensors.index.fp16.json"]  # fmt: skip


@pytest.mark.parametrize(
    ("variant", "weights"),
    [
        (None, [f"{UNET}.safetensors", "text_encoder/model.safetensors", "vae/diffusion_pytorch_model.bin"]),
        (
            "fp16",
            [f"{UNET}.fp16.safetensors", "text_encoder/model.safetensors", "vae/diffusion_pytorch_model.fp16.bin"],
        ),
        (
            "non_ema",
            [f"{UNET}.non_ema.safetensors", "text_encoder/model.safetensors", "vae/diffusion_pytorch_model.bin"],
        ),
    ],
)
def test_of_a_pipeline_one_copy_of_each_component(variant: str | None, weights: list[str]) -> None:
    small = ["README.md", "model_index.json", "unet/config.json", "text_encoder/config.json", "vae/config.json",
             "tokenizer/vocab.json", "tokenizer/merges.txt", "scheduler/scheduler_config.json",
             "feature_extractor/preprocessor_config.json"]  # fmt: skip
    choice = needed(SD, INDEX, variant=variant)
    assert sorted(choice.files) == sorted([*small, *weights]) and choice.model == ""


@pytest.mark.parametrize(
    ("files", "words", "expected", "model"),
    [
        (SHARDS, {}, SHARDS[:4], ""),
        (SHARDS, {"variant": "fp16"}, [SHARDS[0], *SHARDS[4:]], ""),
        ([*SHARDS[:2], *SHARDS[3:]], {}, [SHARDS[0], *SHARDS[4:]], ""),  # a copy without all its shards is none
        (["config.json", "diffusion_pytorch_model.safetensors", "sdxl_vae.safetensors"], {},
         ["config.json", "diffusion_pytorch_model.safetensors"], ""),
        (["a/x.safetensors", "pytorch_lora_weights.safetensors", "logs/e.bin", "emb.safetensors"], {},
         ["pytorch_lora_weights.safetensors"], "pytorch_lora_weights.safetensors"),
        (["learned_embeds.bin", "token_identifier.txt", "concept_images/0.jpeg"], {}, ["learned_embeds.bin"],
         "learned_embeds.bin"),
        (["sd_turbo.safetensors", "sd_turbo_fp16.safetensors", "sd_turbo.ckpt", "optimizer.bin"], {},
         ["sd_turbo.safetensors"], "sd_turbo.safetensors"),
        (["sd_turbo.safetensors", "sd_turbo_fp16.safetensors"], {"variant": "fp16"}, ["sd_turbo_fp16.safetensors"],
         "sd_turbo_fp16.safetensors"),
        (["README.md", "v1.5.ema.ckpt"], {}, ["README.md", "v1.5.ema.ckpt"], "v1.5.ema.ckpt"),
        (SD, {"part": "vae"}, ["README.md", "vae/config.json", "vae/diffusion_pytorch_model.bin"], "vae"),
        (SD, {"part": "v1-5-pruned.ckpt"}, ["README.md", "v1-5-pruned.ckpt"], "v1-5-pruned.ckpt"),
        (["models/ip.safetensors", "models/image_encoder/config.json", "models/image_encoder/model.safetensors"],
         {"part": "models/image_encoder"}, ["models/image_encoder/config.json",
                                            "models/image_encoder/model.safetensors"], "models/image_encoder"),
    ],
)  # fmt: skip
def test_of_other_repositories(files: list[str], words: dict[str, str], expected: list[str], model: str) -> None:
    choice = needed(files, None, **words)
    assert sorted(choice.files) == sorted(expected) and choice.model == model


@pytest.mark.parametrize(
    ("files", "index", "fault"),
    [
        (["a.safetensors", "b.safetensors"], None, "several models: a.safetensors, b.safetensors"),
        (["d.v1.safetensors", "d.v2.safetensors"], None, "several models"),
        (["config.json", "README.md"], None, "no weights that can be read here"),
        (["model_index.json"], {"unet": ["diffusers", "UNet2DConditionModel"]}, "not uploaded whole"),
        (
            ["model_index.json", "unet/config.json", "unet/model.onnx"],
            {"unet": ["x", "Y"]},
            "only for other frameworks",
        ),
        (["model_index.json", "unet/config.json"], {"unet": ["x", "Y"]}, "unet has no weights"),
        ([*SHARDS[:2], SHARDS[3]], None, "one shard of several"),
    ],
)
def test_what_cannot_be_chosen_is_explained(files: list[str], index: dict[str, Any] | None, fault: str) -> None:
    with pytest.raises(HvisError, match=re.escape(fault)):
        needed(files, index)


# ---- all that is here ------------------------------------------------------------------------------------------------


def written(path: Path, tensors: Mapping[str, tuple[int, ...]]) -> int:
    """A safetensors file with such shapes; its bytes."""
    import torch
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: torch.zeros(shape) for name, shape in tensors.items()}, path)
    return path.stat().st_size


LORA = {f"lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.lora_{side}.weight": shape
        for side, shape in (("down", (4, 768)), ("up", (1280, 4)))}  # fmt: skip


def test_all_models_are_listed_by_what_they_are(a1111: Path, tmp_path: Path) -> None:
    size = written(a1111 / "models/Lora/style/ink.safetensors", LORA)
    written(tmp_path / "loose/unnamed.safetensors", LORA)
    written(tmp_path / "loose/strange.safetensors", {"a": (1,)})
    cache = tmp_path / "cache"
    kept = cache / "models--me--my--model/snapshots/0a1b"
    made(kept, ["model_index.json", "unet/config.json"])
    (kept / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    written(cache / "models--me--loras/snapshots/ff/a.safetensors", LORA)
    made(cache / "models--big--language/snapshots/ff", ["config.json", "model.safetensors"])
    found = {model.name: model for model in overview([a1111, tmp_path / "loose"], cache)}
    kinds = {name: model.kind for name, model in found.items()}
    assert {name: kinds[name] for name in ("style/ink.safetensors", "unnamed.safetensors", "strange.safetensors")} == {
        "style/ink.safetensors": "lora", "unnamed.safetensors": "lora", "strange.safetensors": "other",
    }  # fmt: skip
    assert kinds["sub/anything.v3.ckpt"] == "checkpoint" and kinds["EasyNegative.pt"] == "embedding"
    assert kinds["me/my--model"] == "checkpoint" and kinds["me/loras:a.safetensors"] == "lora"
    assert not any("language" in name for name in kinds) and len(found) == 11 + 4 - 1 + 1
    ink = found["style/ink.safetensors"]
    assert (ink.bytes, ink.title) == (size, "a LoRA for Stable Diffusion 1") and found[
        "vae-ft-mse-840000.safetensors"
    ].title == "damaged"
    assert [model.name for model in matching("INK", found.values())] == ["style/ink.safetensors"]
    assert [model.name for model in matching("easy", found.values())] == ["EasyNegative.pt"]


def test_they_are_listed_and_found_by_the_command(hvis: Any, a1111: Path) -> None:
    size = written(a1111 / "models/Lora/add_detail.safetensors", LORA)
    (a1111.parent / "loose").mkdir()
    (a1111.parent / "loose/word.pt").write_bytes(b"")  # nothing but its whole would tell
    assert "word.pt` tells what it is" in hvis(["models", "list", "--models", a1111.parent / "loose"]).out
    said = hvis(["models", "list", "--models", a1111])
    (line,) = [line for line in said.out.splitlines() if line.startswith("add_detail")]
    assert line.endswith("a LoRA for Stable Diffusion 1") and f"{size / 1024:.1f} KiB" in line
    assert "VAE, damaged" in said.out
    found = hvis(["models", "find", "detail", "--models", a1111, "--json"]).document
    assert found["kind"] == "lora" and [model["path"] for model in found["models"]] == [found["path"]]
    said = hvis(["models", "find", "add_detial", "--models", a1111])
    assert said.code == 2 and "add_detail" in said.paragraph
