"""What users get wrong: each mistake one paragraph, its exit code, and nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from command_line import FOX, SMALL_VAE
from PIL import Image
from refusals import left, refused


@pytest.fixture
def damaged(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the small model, to be damaged."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


class Wrong(NamedTuple):
    """Words after `hvis generate`, and what the answer must say."""

    words: tuple[str, ...]
    said: tuple[str, ...]


WRONG = {
    "empty prompt": Wrong(("",), ("The prompt is empty", "for example")),
    "no prompt": Wrong((), ("The prompt is empty",)),
    "10,000 words": Wrong(("fox " * 10_000,), ("10,000 words", "at most 1,000", "Shorten it")),
    "long Chinese": Wrong(("狐" * 1001,), ("1,001 words", "at most 1,000")),
    "size 0": Wrong((FOX, "--width", "0"), ("width must be between", "found 0")),
    "size 100000": Wrong((FOX, "--height", "100000"), ("height must be between", "found 100000")),
    "odd size": Wrong((FOX, "--width", "33"), ("multiple of 8", "33", "32 or 40")),
    "unknown sampler": Wrong((FOX, "--sampler", "dpm++2n"), ("no sampler called 'dpm++2n'", "'dpm++2m'")),
    "no such sampler": Wrong((FOX, "--sampler", "foo"), ("no sampler called 'foo'. `hvis catalog samplers` lists",)),
    "unknown schedule": Wrong((FOX, "--schedule", "karas"), ("no schedule called 'karas'", "karras")),
    "unknown flag": Wrong((FOX, "--stpes", "3"), ("--stpes", "'--steps'")),
    "another program's flag": Wrong((FOX, "--cfg_scale", "3"), ("'--cfg-scale'", "Here it is '--guidance-scale'")),
    "steps in words": Wrong((FOX, "--steps", "ten"), ("steps", "a whole number", "'ten'")),
    "no steps": Wrong((FOX, "--steps", "0"), ("--steps must be between 1", "found 0")),
    "guidance nan": Wrong((FOX, "--guidance-scale", "nan"), ("--guidance-scale must be a number between 0 and 100",)),
    "no pictures": Wrong((FOX, "-n", "0"), ("--count must be between 1", "found 0")),
    "no overlap": Wrong((FOX, "--tiles", "Tiles", "--tiles.overlap", "2"), ("--tiles.overlap must be a number",)),
    "negative seed": Wrong((FOX, "--seed", "-3"), ("seed must be between 0", "-3")),
    "two prompts": Wrong((FOX, "pizza"), ("'pizza' is one too many", "quotation marks")),
    "flag without value": Wrong((FOX, "--steps"), ("--steps", "expected one argument")),
    "unknown device": Wrong((FOX, "--device", "gpu9"), ("device 'gpu9'", "hvis doctor")),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_refused_before_anything_is_written(name: str, hvis: Any, tiny_model: Path) -> None:
    wrong = WRONG[name]
    refused(hvis(["generate", *wrong.words, "--model", tiny_model, "-o", "out"]), 2, *wrong.said)
    assert left() == []


def test_an_unknown_sampler_is_no_wall_of_names(hvis: Any, tiny_model: Path) -> None:
    for name in ("foo", "dpm++9"):
        said = hvis(["generate", FOX, "--model", tiny_model, "--sampler", name]).paragraph
        assert len(said) < 160 and "`hvis catalog samplers`" in said and "None" not in said


def test_a_mistake_is_one_json_document_for_programs(hvis: Any, tiny_model: Path) -> None:
    said = hvis(["generate", "", "--model", tiny_model, "--json"])
    error = said.document["error"]
    assert (said.code, error["kind"], error["exit_code"]) == (2, "UsageError", 2)
    assert error["message"].startswith("The prompt is empty")
    assert hvis(["generat", "--json"]).document["error"]["message"].endswith("Did you mean 'generate'?")


def test_an_unknown_model_recipe_or_source_names_the_nearest(hvis: Any) -> None:
    refused(hvis(["generate", FOX, "--model", "runs/non"]), 2, "no model or run folder called 'runs/non'")
    refused(hvis(["train", "dpm"]), 2, "no recipe called 'dpm'", "'ddpm'")
    refused(hvis(["train"]), 2, "which recipe", "ddpm")
    refused(hvis(["train", "ddpm", "--bacth", "3"]), 2, "'--batch'")
    refused(hvis(["data", "preview", "mnits", "-o", "x.png"]), 2, "'mnits'", "'mnist'")
    refused(hvis(["catalog", "sampler"]), 2, "'samplers'")
    refused(hvis(["models", "remove", "nothing", "--yes"]), 2, "no run called 'nothing'")
    refused(hvis(["train", "--run", "runs/none", "--resume"]), 3, "no run in runs/none")
    assert left() == []


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


class _Bomb:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, ...]]:
        return (os.mkdir, ("exploded",))


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(_Bomb(), protocol=2))


def not_a_number(path: Path) -> None:
    from huggingvis.checkpoints.io import load, save

    tensors = load(path)
    name = next(key for key, value in tensors.items() if value.is_floating_point())
    tensors[name].view(-1)[0] = float("nan")
    save(path, tensors)


@pytest.mark.parametrize(
    ("damage", "code", "words"),
    [
        (cut, 3, ("unet.safetensors is cut short", "again")),
        (pickled, 3, ("unet.safetensors",)),
        (not_a_number, 5, ("unet.safetensors", "should be finite", "NaN")),
        (Path.unlink, 3, ("unet.safetensors",)),
    ],
)
def test_damaged_weights_are_refused_by_name(
    damage: Callable[[Path], None], code: int, words: tuple[str, ...], hvis: Any, damaged: Path
) -> None:
    damage(damaged / "unet.safetensors")
    refused(hvis(["generate", FOX, "--model", damaged]), code, *words)
    assert left() == []


def test_a_damaged_model_record_is_refused_by_name(hvis: Any, damaged: Path, tmp_path: Path) -> None:
    record = json.loads((damaged / "model.json").read_text())
    for change, words in (
        ({"family": "tyni"}, ("'tyni'", "'tiny'")),
        ({"unet": {"chanels": [8]}}, ("'chanels'", "'channels'")),
    ):
        (damaged / "model.json").write_text(json.dumps({**record, **change}))
        said = hvis(["generate", FOX, "--model", damaged])
        refused(said, said.code, *words)
    (damaged / "model.json").write_text(json.dumps({key: record[key] for key in record if key != "text"}))
    refused(hvis(["generate", FOX, "--model", damaged]), 3, "model.json does not say 'text'")
    (damaged / "model.json").write_text("{")
    refused(hvis(["generate", FOX, "--model", damaged]), 3, "model.json is damaged")
    (tmp_path / "nothing").mkdir()
    refused(hvis(["generate", FOX, "--model", tmp_path / "nothing"]), 3, "is no model", "It is empty")
    refused(hvis(["generate", FOX, "--model", damaged / "unet.safetensors"]), 3, "checkpoint of Stable Diffusion 1")
    assert left() == []


def test_pictures_without_a_record_are_not_repeated(hvis: Any, tiny_model: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "bare.png")
    (tmp_path / "text.png").write_text("not a picture")
    for name, words in (
        ("bare.png", ("does not say how it was made",)),
        ("text.png", ("not a PNG, JPEG or WebP picture",)),
        ("none.png", ("There is no file",)),
    ):
        refused(hvis(["generate", "--from", tmp_path / name, "--model", tiny_model]), 3, name, *words)
    assert left() == []


def test_of_a_picture_without_a_record_is_said_that_it_has_none(hvis: Any, tmp_path: Path) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "bare.png")
    said = hvis(["inspect", tmp_path / "bare.png"])
    assert said.code == 0 and "8x6 pixels" in said.out and "it does not say how it was made" in said.out
    assert hvis(["inspect", tmp_path / "bare.png", "--json"]).document["request"] is None


def test_empty_and_missing_data_folders(hvis: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for verb in (["train", "vae", "--data"], ["data", "preview"]):
        refused(hvis([*verb, f"folder:{tmp_path / 'empty'}"]), 3, "no images under", "Accepted are files named")
        refused(hvis([*verb, f"folder:{tmp_path / 'none'}"]), 3, "There is no folder")
    refused(hvis(["data", "preview", "folder:"]), 2, "needs a path")
    assert left() == []


def test_one_image_trains_with_a_warning(hvis: Any, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    Image.new("RGB", (9, 9), (255, 0, 0)).save(tmp_path / "one" / "red.png")
    said = hvis(["train", "vae", "--data", f"folder:{tmp_path / 'one'}", *SMALL_VAE, "--json"])
    assert said.code == 0, said.err
    assert (
        "there is only one image (red.png)" in said.paragraph and "too few pictures to hold any out" in said.paragraph
    )
    assert said.document["last"]["step"] == 2


def test_grey_transparent_16_bit_and_animated_images_are_data(hvis: Any, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    Image.new("L", (8, 8), 128).save(folder / "a-grey.png")
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(folder / "b-clear.png")
    Image.fromarray(np.full((8, 8), 257 * 64, np.uint16)).save(folder / "c-deep.png")
    frames = [Image.new("RGB", (8, 8), (0, 255, 0)), Image.new("RGB", (8, 8), (0, 0, 255))]
    frames[0].save(folder / "d-moving.gif", save_all=True, append_images=frames[1:])
    said = hvis(["data", "preview", f"folder:{folder}", "--size", 8, "-n", 4, "-o", "sheet.png", "--json"])
    assert said.code == 0, said.err
    with Image.open("sheet.png") as sheet:
        centres = {sheet.getpixel((x, y)) for x in (104, 304) for y in (104, 304)}
    assert centres == {(128, 128, 128), (255, 255, 255), (64, 64, 64), (0, 255, 0)}


def test_a_damaged_image_stops_the_training_by_name(hvis: Any, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    Image.new("RGB", (64, 64), (1, 2, 3)).save(tmp_path / "data" / "good.png")
    whole = (tmp_path / "data" / "good.png").read_bytes()
    (tmp_path / "data" / "half.png").write_bytes(whole[: len(whole) // 2])
    refused(hvis(["train", "vae", "--data", tmp_path / "data", *SMALL_VAE]), 3, "half.png", "damaged or incomplete")
    assert left() == []


def images(folder: Path, count: int = 3) -> Path:
    """A folder with a few small pictures."""
    folder.mkdir()
    for i in range(count):
        Image.new("RGB", (8, 8), (80 * i, 0, 0)).save(folder / f"{i}.png")
    return folder


def test_a_run_goes_on_with_other_numbers_without_naming_its_recipe(hvis: Any, tmp_path: Path) -> None:
    data = images(tmp_path / "data")
    assert hvis(["train", "vae", "--data", f"folder:{data}", *SMALL_VAE, "--run", "runs/mine"]).code == 0
    said = hvis(["train", "--run", "runs/mine", "--resume", "--steps", 3, "--json"])
    assert said.code == 0, said.err
    assert said.document["recipe"] == "vae" and said.document["last"]["step"] == 3
    refused(hvis(["train", "--run=runs/mine", "--resume", "--stpes", 4]), 2, "'--steps'")


def test_a_settings_file_that_cannot_be_read_is_named(hvis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open

    def closed(path: Any, *how: Any, **more: Any) -> Any:
        if Path(str(path)).name == "config.toml":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *how, **more)

    monkeypatch.setattr("builtins.open", closed)
    refused(hvis(["generate", FOX]), 3, "settings file", "config.toml", "Permission denied", "HVIS_CONFIG")
    monkeypatch.undo()
    monkeypatch.setenv("HVIS_CONFIG", "x" * 300)
    refused(hvis(["generate", FOX]), 3, "settings file", "cannot be read")


@pytest.mark.parametrize("name", ["steps", "batch"])
def test_training_for_no_steps_or_on_no_pictures_is_refused(hvis: Any, tmp_path: Path, name: str) -> None:
    data = images(tmp_path / "data")
    refused(hvis(["train", "vae", "--data", f"folder:{data}", f"--{name}", 0]), 2, f"{name} must be 1 or more, found 0")
    assert left() == []


def test_an_empty_prompt_is_refused_before_the_packaged_model_is_loaded(
    hvis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingvis import api

    monkeypatch.setattr(api, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    refused(hvis(["generate", " "]), 2, "The prompt is empty")


def test_a_wrong_word_for_a_number_is_told_by_its_flag(hvis: Any) -> None:
    said = hvis(["generate", FOX, "-n", "abc"])
    refused(said, 2, "'count' must be a whole number, but 'abc' was found")
    assert "Canvas" not in said.err


def test_offline_training_says_what_else_there_is_and_leaves_no_folder(
    hvis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    said = hvis(["data", "preview", "mnist", "-o", "x.png"])
    refused(said, 3, "Downloading train-images", "no network", "by hand", "folder:PATH instead of mnist")
    assert said.paragraph.startswith("Downloading") and left() == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are of Unix")
def test_pipes_and_devices_are_refused_and_not_waited_for(hvis: Any, tiny_model: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", "/dev/zero"):
        for words in (["inspect", place], ["generate", FOX, "--model", tiny_model, "--image", place]):
            refused(hvis(words), 3, f"{place} is a pipe or a device, expected a file")


def test_names_that_no_file_can_have_are_refused(hvis: Any, tiny_model: Path, tmp_path: Path) -> None:
    long = "a" * 5000
    refused(hvis(["inspect", long]), 3, "its name is longer than")
    refused(hvis(["generate", FOX, "--model", "http://["]), 2, "no model or run folder called 'http://['")
    for row, words in (({"image": long}, "There is no file"), ({"prompt": "\ud800"}, "no character of a text")):
        Path("rows.jsonl").write_text(json.dumps(row))
        refused(hvis(["batch", "rows.jsonl", "--model", tiny_model]), 2, words)


def test_numbers_of_thousands_of_digits_are_no_numbers(hvis: Any, tiny_model: Path) -> None:
    for word in ("9" * 5000, "[" * 5000):
        refused(hvis(["generate", FOX, "--model", tiny_model, "--steps", word]), 2)


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "9" * 6000, 'recipe = "vae"\n[config]\nsteps = "x"'])
def test_a_damaged_run_is_refused_by_the_name_of_its_file(hvis: Any, tmp_path: Path, text: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.toml").write_text(text)
    refused(hvis(["generate", "--model", tmp_path / "run"]), 3, "run/config.toml")
    assert hvis(["models", "list", "--runs", tmp_path]).code == 0


def test_a_deep_record_of_a_model_is_refused_by_name(hvis: Any, damaged: Path) -> None:
    (damaged / "model.json").write_text("[" * 100_000)
    refused(hvis(["generate", FOX, "--model", damaged]), 3, "model.json is damaged")


def test_a_folder_of_a_row_is_not_read_through_before_it_is_refused(
    hvis: Any, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "a.txt").write_text("no embedding")
    Path("rows.jsonl").write_text(json.dumps({"prompt": FOX, "embedding": str(tmp_path / "downloads")}))
    refused(hvis(["batch", "rows.jsonl", "--model", tiny_model]), 2, "is a folder with no LoRA, embedding or control")
