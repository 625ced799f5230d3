"""`--from` on the command line: records with hashes, pictures of other programs, their files; and seeds by flags."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import pixels
from foreign_pictures import exif_comment, infotext, png
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save_file as save_tensors
from tiny_pipelines import pipeline

import huggingvis as hv
from huggingvis.checkpoints.file_hashes import read_hashes
from huggingvis.core.request import Canvas, FromPicture, Inpaint, Prompt, Request, Sampling
from huggingvis.core.system import System
from huggingvis.export.image import read_provenance
from huggingvis.systems.pipelines import How, bind_folder
from huggingvis.systems.saving import save_file

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:The model was trained on pictures of"),
]
PROMPT = "an astronaut riding a horse"
SHORT = ("--steps", 3, "--precision", "float32", "--json")
SETTINGS = {"Steps": 3, "Sampler": "Euler a", "CFG scale": 2, "Seed": 5, "Size": "16x16", "RNG": "CPU"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a web UI with one small model and one LoRA."""
    root = tmp_path_factory.mktemp("webui")
    pipeline().save_pretrained(root / "tiny-sd")
    (root / "models" / "Stable-diffusion").mkdir(parents=True)
    (root / "models" / "Lora").mkdir()
    save_file(bind_folder(root / "tiny-sd", How()), root / "models" / "Stable-diffusion" / "dream.safetensors")
    write_lora(root / "models" / "Lora" / "style.safetensors", 0)
    return root


def write_lora(path: Path, seed: int) -> Path:
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    g = torch.Generator().manual_seed(seed)
    tensors = {f"{name}.lora_down.weight": torch.randn(4, 32, generator=g),
               f"{name}.lora_up.weight": torch.randn(32, 4, generator=g)}  # fmt: skip
    save_tensors(tensors, path, {"ss_base_model_version": "sd_v1"})
    return path


@pytest.fixture
def model(models: Path) -> Path:
    return models / "models" / "Stable-diffusion" / "dream.safetensors"


def made(said: Any) -> np.ndarray:
    assert said.code == 0, said.err
    return pixels(said.document["pictures"][0]["path"])


def test_a_record_finds_its_model_and_knows_its_files(hvis: Any, models: Path, model: Path, tmp_path: Path) -> None:
    lora = write_lora(tmp_path / "style.safetensors", 0)
    said = hvis(["generate", PROMPT, "--model", model, "--lora", f"{lora}:0.5", "--size", 16, *SHORT])
    one, path = made(said), said.document["pictures"][0]["path"]
    told = read_provenance(path)
    assert told.made["model_path"] == str(model) and told.made["model_hash"] == read_hashes(model).sha256
    (file,) = told.made["files"]
    assert file["kind"] == "lora" and file["sha256"] == read_hashes(lora).sha256
    assert f"Model hash: {told.made['model_hash'][:10]}, Model: dream" in str(told.infotext)
    assert f'Lora hashes: "style: {read_hashes(lora).addnet[:12]}"' in str(told.infotext)
    assert "<lora:style:0.5>" in str(told.infotext) and "Sampler: DPM++ 2M, Schedule type: Karras" in str(told.infotext)
    again = hvis(["generate", "--from", path, "--json", "--precision", "float32"])
    assert again.document["repeats"]["identical"] is True
    assert not any("changed" in note for note in again.document["notes"])
    write_lora(lora, 1)
    other = hvis(["generate", "--from", path, "--json", "--precision", "float32"])
    assert f"{lora} has changed since the picture was made (it was {file['sha256'][:10]})" in other.paragraph
    assert not np.array_equal(made(other), one)
    said = hvis(["generate", PROMPT, "--model", models / "tiny-sd", "--sampler", "own", "--schedule", "own", *SHORT])
    assert "Sampler: DDIM, Schedule type: leading" in str(
        read_provenance(said.document["pictures"][0]["path"]).infotext
    )


def test_a_record_finds_the_autoencoder_that_took_the_model_s_place(
    hvis: Any, models: Path, model: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(models / "tiny-sd" / "vae", tmp_path / "other-vae"))
    weights = other / "diffusion_pytorch_model.safetensors"
    save_tensors({name: x * 1.05 for name, x in load_tensors(weights).items()}, weights)
    said = hvis(["generate", PROMPT, "--model", model, "--vae", other, "--size", 16, *SHORT])
    path = said.document["pictures"][0]["path"]
    assert (made(hvis(["generate", PROMPT, "--model", model, "--size", 16, *SHORT])) != made(said)).any()
    repeat = ["generate", "--from", path, "--json", "--precision", "float32"]
    again = hvis(repeat)
    assert again.code == 0 and again.document["repeats"]["identical"] is True, again.err
    other.rename(tmp_path / "elsewhere")
    lost = hvis(repeat)
    assert lost.document["repeats"]["identical"] is False
    assert "is not here and is left out: give it with --vae FILE" in lost.document["notes"][0]


def test_a_record_knows_the_pictures_that_it_starts_from(hvis: Any, model: Path, tmp_path: Path) -> None:
    picture, mask = tmp_path / "start.png", tmp_path / "mask.png"
    Image.new("RGB", (16, 16), (200, 30, 30)).save(picture)
    Image.new("L", (16, 16), 255).save(mask)
    said = hvis(["generate", PROMPT, "--model", model, "--image", picture, "--mask", mask, "--size", 16, *SHORT])
    path = said.document["pictures"][0]["path"]
    files = read_provenance(path).made["files"]
    assert [(file["kind"], file["path"], file["sha256"]) for file in files] == [
        ("picture", str(one), read_hashes(one).sha256) for one in (picture, mask)
    ]
    repeat = ["generate", "--from", path, "--json", "--precision", "float32"]
    again = hvis(repeat)
    assert again.document["repeats"]["identical"] is True and "has changed" not in again.err
    Image.new("RGB", (16, 16), (30, 30, 200)).save(picture)
    (said,) = [note for note in hvis(repeat).document["notes"] if "has changed since the picture was made" in note]
    assert str(picture) in said and str(mask) not in said


def test_a_picture_of_the_web_ui_is_made_from_its_own_words(
    hvis: Any, models: Path, model: Path, tmp_path: Path
) -> None:
    lora = models / "models" / "Lora" / "style.safetensors"
    settings = {**SETTINGS, "Model hash": read_hashes(model).sha256[:10], "Model": "dream", "Clip skip": 2,
                "Lora hashes": f"style: {read_hashes(lora).addnet[:12]}"}  # fmt: skip
    text = infotext(f"{PROMPT} <lora:style:0.7>", "dark", settings)
    paths = png(tmp_path / "a.png", {"parameters": text}), exif_comment(tmp_path / "a.jpg", text)
    by_flags = hvis(["generate", PROMPT, "--negative", "dark", "--model", model, "--lora", f"{lora}:0.7", "--size", 16,
                     "--sampler", "Euler a", "--schedule", "normal", "--guidance-scale", 2, "--seed", 5, "--rng", "cpu",
                     "--set", "clip_skip=2", *SHORT])  # fmt: skip
    for path in paths:
        said = hvis(["generate", "--from", path, "--models", models, "--json", "--precision", "float32"])
        assert np.array_equal(made(said), made(by_flags))
        assert said.document["notes"][:1] == [f"{path.name}: read from the notes of A1111's web UI."]
    more = hvis(["generate", "--from", paths[0], "--models", models, "--steps", 4, "--json"])
    assert more.document["request"]["sampling"]["steps"] == 4 and more.document["request"]["sampling"]["seed"] == 5


def test_files_that_are_not_here_or_are_others_are_said(hvis: Any, models: Path, model: Path, tmp_path: Path) -> None:
    settings = {**SETTINGS, "Model hash": "0123456789", "Model": "dream", "Lora hashes": "gone: aaebf6360f7d",
                "Denoising strength": 0.5, "Foo": "bar"}  # fmt: skip
    path = png(tmp_path / "a.png", {"parameters": infotext(f"{PROMPT} <lora:gone:0.7>", "", settings)})
    said = hvis(["generate", "--from", path, "--models", models, "--json", "--precision", "float32"])
    assert said.code == 0
    paragraph = said.document["notes"][0]
    assert f"{model} is not the file that the picture was made with, whose hash begins with 0123456789." in paragraph
    assert "The lora 'gone' (hash aaebf6360f7d) is not here and is left out: give it with --lora FILE:0.7." in paragraph
    assert "give it with --image, and it is made from that with strength 0.5;" in paragraph
    assert "left out: Foo" in paragraph
    said = hvis(["generate", "--from", path])
    assert (
        said.code == 2
        and "with the model 'dream' (hash 0123456789), which is not among the models here" in said.paragraph
    )
    said = hvis(["generate", "--from", png(tmp_path / "b.png", {"parameters": infotext("a", "", SETTINGS)})])
    assert said.code == 2 and "does not say with which model it was made" in said.paragraph


def test_a_model_that_knows_less_says_what_it_leaves_out(hvis: Any, tiny_model: Path, tmp_path: Path) -> None:
    settings = {**SETTINGS, "Size": "32x32", "Clip skip": 2, "Model": "dream"}
    path = png(tmp_path / "a.png", {"parameters": infotext("a fox", "", settings)})
    said = hvis(["generate", "--from", path, "--model", tiny_model, "--json"])
    assert said.code == 0, said.err
    sampling = said.document["request"]["sampling"]
    assert sampling["sampler"] == "euler-a" and sampling["schedule"] == "uniform" and sampling["steps"] == 3
    assert "knows no clip_skip (2)" in said.paragraph and "has no schedule 'normal'" in said.paragraph


def test_a_part_is_made_anew_by_the_numbers_of_the_notes(hvis: Any, tiny_model: Path, tmp_path: Path) -> None:
    settings = {**SETTINGS, "Size": "32x32", "Model": "dream", "Denoising strength": 0.75, "Mask blur": 2,
                "Inpaint area": "Only masked", "Masked area padding": 4, "Masked content": "fill"}  # fmt: skip
    path = png(tmp_path / "a.png", {"parameters": infotext("a fox", "", settings)})
    said = hvis(["inspect", path])
    assert "with --image and --mask, and it is made anew with strength 0.75, region masked" in said.out
    picture, mask = (str(tmp_path / name) for name in ("in.png", "mask.png"))
    Image.new("RGB", (32, 32), "teal").save(picture)
    Image.new("L", (32, 32), 255).save(mask)
    words = ["generate", "--from", path, "--model", tiny_model, "--image", picture, "--json"]
    masked = hvis([*words, "--mask", mask, "--inpaint", "padding=8"])
    assert masked.code == 0, masked.err
    assert Request.from_dict(masked.document["request"]).source == Inpaint(
        picture, mask, 0.75, region="masked", padding=8, blur=2.0, fill="fill"
    )
    plain = hvis([*words, "--strength", 0.5, "--resize-mode", "crop"])
    assert Request.from_dict(plain.document["request"]).source == FromPicture(picture, 0.5, "crop")
    assert Request.from_dict(hvis(words).document["request"]).source == FromPicture(picture, 0.75)


def test_other_kinds_of_files(hvis: Any, tiny_model: Path) -> None:
    for kind, ending in (("jpeg", ".jpg"), ("webp", ".webp")):
        said = hvis(["generate", "a fox", "--model", tiny_model, "--format", kind, "--json", "--steps", 2])
        path = said.document["pictures"][0]["path"]
        assert path.endswith(ending)
        with Image.open(path) as image:
            assert image.format == kind.upper()
        again = hvis(["generate", "--from", path, "--model", tiny_model, "--json"])
        assert again.code == 0 and again.document["repeats"]["largest_difference"] < 255
    assert hvis(["generate", "a fox", "--model", tiny_model, "--format", "bmp"]).code == 2


def test_the_model_of_the_package_is_known_by_name(hvis: Any, tmp_path: Path) -> None:
    """Sites keep `parameters` and drop what else a picture says."""
    settings = {"Steps": 1, "Sampler": "Euler", "Seed": 5, "Size": "64x64", "RNG": "CPU", "Model": "tiny"}
    path = png(tmp_path / "a.png", {"parameters": infotext("a fox", "", settings)})
    assert made(hvis(["generate", "--from", path, "--json"])).shape == (64, 64, 3)
    other = png(tmp_path / "b.png", {"parameters": infotext("a fox", "", {**settings, "Model hash": "6ce0161689"})})
    said = hvis(["generate", "--from", other])
    assert said.code == 2 and "which is not among the models here" in said.paragraph


def test_a_sheet_says_that_it_is_one(hvis: Any, tiny_model: Path) -> None:
    drawn = hvis(["grid", "a fox", "--model", tiny_model, "--steps", 1, "--x", "seed=1,2", "--json"])
    sheet = drawn.document["grid"]
    said = hvis(["generate", "--from", sheet])
    assert said.code == 3 and "it is a sheet of several pictures" in said.paragraph
    lines = dict(line.split("  ", 1) for line in hvis(["inspect", sheet]).out.splitlines())
    assert lines["notes of"].strip() == "huggingvis" and lines["x"].strip() == "seed 1, 2"


def test_inspect_shows_what_there_is(hvis: Any, tmp_path: Path) -> None:
    settings = {**SETTINGS, "Model hash": "6ce0161689", "Model": "v1-5", "ADetailer model": "face"}
    path = png(tmp_path / "a.png", {"parameters": infotext("a fox, 狐狸", "dark", settings)})
    said = hvis(["inspect", path])
    lines = dict(line.split("  ", 1) for line in said.out.splitlines())
    assert lines["notes of"].strip() == "A1111's web UI" and lines["prompt"].strip() == "a fox, 狐狸"
    assert lines["checkpoint"].strip() == "v1-5, hash 6ce0161689" and "ADetailer model" in lines["note"]
    assert "sampler euler-a, schedule normal, steps 3, guidance scale 2, seed 5, rng cpu" in lines["sampling"]
    assert hvis(["inspect", path, "--json"]).document["request"]["sampling"]["rng"] == "cpu"


# ---- seeds -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def system(models: Path) -> System:
    return hv.load(models / "models" / "Stable-diffusion" / "dream.safetensors", precision="float32")


def drawn(system: System, count: int = 1, **sampling: Any) -> list[np.ndarray]:
    how = Sampling(**{"sampler": "euler", "schedule": "karras", "steps": 3, "seed": 5, **sampling})
    return [
        picture.pixels for picture in hv.generate(Request(Prompt(PROMPT), Canvas(16, 16, count), how), model=system)
    ]


def test_variations_by_flags(hvis: Any, model: Path, system: System) -> None:
    (plain,), (other,) = drawn(system), drawn(system, seed=99)
    with pytest.warns(UserWarning, match="no effect at variation_strength 0"):
        assert np.array_equal(drawn(system, variation_seed=99)[0], plain)
    (some,) = (picture.astype(int) for picture in drawn(system, variation_seed=99, variation_strength=0.2))
    assert 0 < np.abs(some - plain).mean() < np.abs(some - other).mean()
    words = ["generate", PROMPT, "--model", model, "--size", 16, "--sampler", "euler", "--schedule", "karras",
             "--guidance-scale", 5, *SHORT]  # fmt: skip
    said = hvis([*words, "--seed", 5, "--variation-seed", 98, "--variation-strength", 1, "-n", 2])
    pictures = said.document["pictures"]
    assert np.array_equal(pixels(pictures[1]["path"]), other)
    assert [(picture["seed"], picture["variation_seed"]) for picture in pictures] == [(5, 98), (5, 99)]
    again = hvis(["generate", "--from", pictures[1]["path"], "--json", "--precision", "float32"])
    assert again.document["repeats"]["identical"] is True
    more = hvis(["generate", "--from", pictures[1]["path"], "--guidance-scale", 5, *SHORT])
    assert np.array_equal(made(more), other)


def test_sources_of_random_numbers(hvis: Any, model: Path, system: System) -> None:
    """Of a sampler that draws nothing, CPU sources make one picture; the steps of another tell them apart."""
    pictures = {
        (sampler, rng): drawn(system, sampler=sampler, rng=rng)[0].tobytes()
        for sampler in ("euler", "euler-a") for rng in ("own", "cpu", "philox", "comfy", "invoke")
    }  # fmt: skip
    assert len({pictures["euler", rng] for rng in ("own", "cpu", "comfy", "invoke")}) == 1
    assert pictures["euler", "philox"] != pictures["euler", "own"]
    assert pictures["euler-a", "own"] == pictures["euler-a", "cpu"]
    assert len({pictures["euler-a", rng] for rng in ("cpu", "philox", "comfy", "invoke")}) == 4
    ensd = drawn(system, sampler="euler-a", rng="cpu", eta_noise_seed_delta=31337)[0]
    assert ensd.tobytes() != pictures["euler-a", "cpu"]
    said = hvis(["generate", PROMPT, "--model", model, "--size", 16, "--rng", "nv"])
    assert said.code == 2 and "called 'nv'. A1111's NV and GPU are 'philox'." in said.paragraph


def test_a_web_ui_folder_copied_elsewhere_still_serves(hvis: Any, models: Path, tmp_path: Path) -> None:
    """The record's path is gone, the model's name is found in --models."""
    root = tmp_path / "copy"
    shutil.copytree(models / "models", root / "models")
    model = root / "models" / "Stable-diffusion" / "dream.safetensors"
    said = hvis(["generate", PROMPT, "--model", model, "--size", 16, *SHORT])
    path = said.document["pictures"][0]["path"]
    model.unlink()
    again = hvis(["generate", "--from", path, "--models", models, "--json", "--precision", "float32"])
    assert again.code == 0 and again.document["repeats"]["identical"] is True
    gone = hvis(["generate", "--from", path])
    assert gone.code == 2 and "was made by the model 'dream'" in gone.paragraph


@pytest.mark.parametrize(
    "wrong",
    [{"files": 5}, {"files": [5, {"kind": ["vae"], "path": 5}]}, {"model_path": "a" * 5000, "model_hash": "0" * 64}],
    ids=str,
)
def test_a_record_that_lies_of_its_files_is_no_crash(
    hvis: Any, model: Path, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    assert hvis(["generate", PROMPT, "--model", model, "--size", 16, "-o", tmp_path / "out", *SHORT]).code == 0
    (path,) = (tmp_path / "out").glob("*.png")
    with Image.open(path) as image:
        record = json.loads(image.info["huggingvis"])
        record["made"] |= wrong
        notes = PngInfo()
        notes.add_itxt("huggingvis", json.dumps(record))
        image.save(tmp_path / "lies.png", pnginfo=notes)
    said = hvis(["generate", "--from", tmp_path / "lies.png", "--model", model, "--precision", "float32", "--json"])
    assert said.code == 0 and np.array_equal(made(said), pixels(path))
