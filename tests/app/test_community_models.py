"""The community's models on the command line: folders, single files, adapters, pictures to start from, repeated."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import pixels
from PIL import Image
from safetensors.torch import save_file as save_tensors
from tiny_pipelines import pipeline

from huggingvis.app.commands.generate import _read_as
from huggingvis.app.origins import Origin
from huggingvis.export.image import Provenance
from huggingvis.systems.pipelines import How, bind_folder
from huggingvis.systems.saving import save_file

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
SHORT = ("--steps", 3, "--precision", "float32")
PROMPT = "an astronaut riding a horse"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("community") / "tiny-sd"
    pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("loras") / "style.safetensors"
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    g = torch.Generator().manual_seed(0)
    tensors = {f"{name}.lora_down.weight": torch.randn(4, 32, generator=g),
               f"{name}.lora_up.weight": torch.randn(32, 4, generator=g)}  # fmt: skip
    save_tensors(tensors, path, {"ss_base_model_version": "sd_v1"})
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(tmp_path / "in.png")
    return tmp_path / "in.png"


def made(said: Any) -> np.ndarray:
    assert said.code == 0, said.err
    return pixels(said.document["pictures"][0]["path"])


def test_a_folder_and_its_single_file_make_the_same_picture(hvis: Any, model: Path, tmp_path: Path) -> None:
    words = ["generate", PROMPT, "--json", "--sampler", "Euler a", "--schedule", "karras", "--size", 16, *SHORT]
    one = made(hvis([*words, "--model", model]))
    # sizes that the family does not have must be said in the file, which ours does
    path = save_file(bind_folder(model, How()), tmp_path / "tiny.safetensors")
    assert np.array_equal(made(hvis([*words, "--model", path])), one)
    assert one.shape == (16, 16, 3) and one.std() > 1


def test_how_a_model_was_loaded_is_recorded_and_told_where_it_is_otherwise(
    hvis: Any, model: Path, tmp_path: Path
) -> None:
    path = save_file(bind_folder(model, How()), tmp_path / "tiny.safetensors")
    words = ["generate", PROMPT, "--json", "--size", 16, "--prediction", "v", "--model", path, *SHORT]
    (row,) = hvis(words).document["pictures"]
    assert (row["precision"], row["prediction"]) == ("float32", "v")
    again = hvis(["generate", "--from", row["path"], "--json", "--precision", "float32"]).document
    assert again["repeats"]["identical"] and "then," not in "".join(again["notes"])
    other = hvis(["generate", "--from", row["path"], "--json", "--steps", 1, "--precision", "bfloat16",
                  "--prediction", "epsilon"]).document  # fmt: skip
    said = "\n".join(other["notes"])
    assert "in another precision (--precision): float32 then, bfloat16 now" in said and "v then, epsilon now" in said


def test_how_a_single_file_was_read_is_kept_whatever_its_kind(tmp_path: Path) -> None:
    flags, made_by = Namespace(model=None, prediction=None), {"prediction": "v"}
    for name, kept in (("a.ckpt", "v"), ("a.safetensors", "v"), ("a.pkl", None), ("a", None)):
        path = tmp_path / name
        path.write_bytes(b"") if path.suffix else path.mkdir()
        assert _read_as(flags, Origin(Provenance(tmp_path, "{}", made_by, None), model=str(path))) == kept, name


def test_a_lora_is_in_the_record_and_the_picture_is_made_again(hvis: Any, model: Path, lora: Path) -> None:
    plain = made(hvis(["generate", PROMPT, "--model", model, "--json", *SHORT]))
    said = hvis(["generate", PROMPT, "--model", model, "--lora", f"{lora}:0.5", "--json", *SHORT])
    styled = made(said)
    assert not np.array_equal(plain, styled)
    (use,) = said.document["request"]["adapters"]
    assert use["weight"] == 0.5 and Path(use["path"]).name == "style.safetensors"
    again = hvis(["generate", "--from", said.document["pictures"][0]["path"], "--model", model, "--json",
                  "--precision", "float32"])  # fmt: skip
    assert again.document["repeats"]["identical"] is True
    weaker = hvis(["generate", PROMPT, "--model", model, "--lora", lora, "--lora", f"{lora}:-1", "--json", *SHORT])
    assert int(np.abs(made(weaker).astype(int) - plain.astype(int)).max()) <= 1


def test_a_record_whose_files_are_elsewhere_says_so(
    hvis: Any, model: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = hvis(["generate", PROMPT, "--model", model, "--image", picture.name, "--json", *SHORT])
    made_picture = Path(said.document["pictures"][0]["path"]).resolve()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    said = hvis(["generate", "--from", made_picture, "--model", "no/such/model"])
    assert said.code == 3 and "There is no file in.png. The record of" in said.paragraph
    said = hvis(["generate", "--from", made_picture, "--model", model, "--image", picture, "--json", *SHORT])
    assert said.document["request"]["source"]["path"] == str(picture)


def test_from_a_picture_and_into_a_hole(hvis: Any, model: Path, picture: Path, tmp_path: Path) -> None:
    said = hvis(["generate", PROMPT, "--model", model, "--image", picture, "--strength", 0.7, "--json", *SHORT])
    started = {"kind": "FromPicture", "path": str(picture), "strength": 0.7, "resize": "stretch"}
    assert said.document["request"]["source"] == started
    mask = np.zeros((16, 16), dtype=np.uint8)
    mask[4:12, 4:12] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    words = ["generate", PROMPT, "--model", model, "--image", picture, "--mask", tmp_path / "mask.png", "--json"]
    said = hvis([*words, *SHORT])
    assert said.document["request"]["source"]["kind"] == "Inpaint"
    assert made(said).shape == (16, 16, 3)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--strength", 0.5], "--strength is about a picture to start from"),
        (["--image", "absent.png"], "There is no file absent.png"),
        (["--lora", "absent.safetensors"], "There is no file absent.safetensors. Check the path, or say with --models"),
        (["--lora", "absent"], "no LoRA called 'absent'"),
        (["--control", "{lora}:{picture}"], "style.safetensors is a LoRA: give it with --lora FILE:WEIGHT"),
        (["--image", "{picture}", "--mask", "{dark}"], "its brightest spot is 76 of 255"),
        (["--control", "canny.safetensors"], "--control takes a file and the picture that it reads"),
        (["--image", "{picture}", "--strength", 0.1], "leaves no step to walk"),
        (["--set", "clip_skip=9"], "clip_skip counts layers from the end: 1 to 3"),
        (["--set", "clip_skip=x"], "clip_skip is a whole number"),
        (["--size", "15x16"], "multiple of"),
        (["--prediction", "v"], "says itself what its net predicts: leave out --prediction"),
    ],
)
def test_mistakes_are_told_in_a_paragraph(
    words: list[Any], sentence: str, hvis: Any, model: Path, picture: Path, lora: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (16, 16), (255, 0, 0)).save(tmp_path / "dark.png")
    places = {"picture": picture, "lora": lora, "dark": tmp_path / "dark.png"}
    told = [str(word).format(**places) for word in words]
    said = hvis(["generate", PROMPT, "--model", model, *told, *SHORT])
    assert said.code in (2, 3) and sentence in said.paragraph
    assert "Traceback" not in said.err


def test_an_autoencoder_that_is_none_is_named(hvis: Any, model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, sentence in (
        (model / "unet", 'unet: config.json is of the class "UNet2DConditionModel", and what is read here is'),
        (tmp_path / "empty", "There is no file"),
    ):
        said = hvis(["generate", PROMPT, "--model", model, "--vae", folder, *SHORT])
        assert said.code == 3 and sentence in said.paragraph and folder.name in said.paragraph


def test_an_autoencoder_by_itself_shows_what_it_keeps(hvis: Any, model: Path, picture: Path, tmp_path: Path) -> None:
    said = hvis(["explore", "reconstruct", picture, "--model", model / "vae", "-o", tmp_path / "sheet.png", "--json"])
    assert said.code == 0, said.err
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height > 2 * 16 and sheet.width > 16  # two rows, and their labels
    said = hvis(["generate", "--model", model / "vae"])
    assert said.code == 2 and "hvis explore reconstruct PICTURE" in said.paragraph


def test_a_long_prompt_is_read_to_its_end(hvis: Any, model: Path) -> None:
    said = hvis(["generate", "a " * 80 + "purple elephant", "--model", model, *SHORT])
    assert said.code == 0 and "left out" not in said.paragraph


def test_a_model_of_our_own_takes_no_other_autoencoder(hvis: Any, model: Path) -> None:
    said = hvis(["generate", PROMPT, "--vae", model / "vae", *SHORT])
    assert said.code == 2 and "takes no other: leave out --vae" in said.paragraph


def test_what_is_no_model_is_not_said_to_have_parts_of_its_own(hvis: Any, model: Path) -> None:
    said = hvis(["generate", PROMPT, "--model", model / "text_encoder", "--vae", model / "vae", *SHORT])
    assert said.code == 3 and "text_encoder is no model" in said.paragraph and "one part of a model" in said.paragraph


def test_what_other_programs_load_by_the_prompt_is_loaded_or_told(hvis: Any, model: Path) -> None:
    said = hvis(["generate", "a cat <lora:style:0.8>", "--model", model, *SHORT])
    assert said.code == 2 and "'style'" in said.paragraph
    said = hvis(["generate", "a cat <hypernet:style:0.8>", "--model", model, *SHORT])
    assert said.code == 0 and "<hypernet:style:0.8> in the prompt is no word" in said.paragraph


def test_a_net_by_itself_says_what_else_it_needs(hvis: Any, model: Path) -> None:
    said = hvis(["generate", "a cat", "--model", model / "unet"])
    assert said.code == 3 and "unet is a latent diffusion U-Net" in said.paragraph
    assert "no autoencoder (give one with --vae), no text encoder (give it with --text-encoder" in said.paragraph


@pytest.mark.parametrize(("part", "sentence"), [("text_encoder", "is of one part of a model"), ("", "It is empty")])
def test_a_folder_that_is_no_model_says_what_it_is(part: str, sentence: str, hvis: Any, model: Path) -> None:
    empty = Path("empty")
    empty.mkdir()
    said = hvis(["generate", "a cat", "--model", model / part if part else empty])
    assert said.code == 3 and sentence in said.paragraph and "model_index.json of diffusers" in said.paragraph
