"""For those who serve pictures to others: the safety checker, pictures without a record, and a model's licence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import FOX, SHORT, pixels
from PIL import Image
from safetensors.torch import save_file as save_tensors
from tiny_pipelines import PROMPT, pipeline

import huggingvis as hv
from huggingvis.checkpoints.formats import read_header
from huggingvis.checkpoints.io import load
from huggingvis.checkpoints.safety_checker_files import SAFETY
from huggingvis.checkpoints.training_notes import licence as licence_of
from huggingvis.core.media import Picture
from huggingvis.core.request import Prompt, Request
from huggingvis.export.image import encode, read_provenance
from huggingvis.nets.clip_vision import CLIPVisionConfig
from huggingvis.nets.safety_checker import SafetyChecker, SafetyConfig
from huggingvis.systems.judges.safety import BLANK
from huggingvis.systems.pipelines import How, bind_folder
from huggingvis.systems.saving import save_file

SECRET = "a wombat called Zyxwv"
NEGATIVE = "qqrrss"


@pytest.fixture
def checker(tmp_path: Path) -> Path:
    """A safety checker that refuses everything."""
    torch.manual_seed(0)
    net = SafetyChecker(SafetyConfig(CLIPVisionConfig(8, 4, 3, 8, 2, 2, 12, projection=6)))
    net.thresholds.data.fill_(-2.0)
    return SAFETY.write(net, tmp_path / "safety_checker")


def test_nothing_is_refused_unless_it_is_asked_for(hvis: Any, tiny_model: Path, checker: Path) -> None:
    words = ["generate", FOX, "--model", tiny_model, "-n", 2, "--json", *SHORT]
    plain, checked = hvis(words), hvis([*words, "--safety-checker", checker])
    assert plain.code == checked.code == 0, checked.err
    assert BLANK not in plain.paragraph and all("safety" not in made for made in plain.document["pictures"])
    for seed, made in enumerate(checked.document["pictures"]):
        assert not pixels(made["path"]).any() and f"Seed {seed}: {BLANK}" in checked.paragraph
        told = read_provenance(made["path"])
        assert told.made["safety"] == {"checker": "safety_checker", "flagged": True} and BLANK in told.made["notes"]
        assert told.request().prompt.text == FOX
    path = plain.document["pictures"][1]["path"]
    again = hvis(["generate", "--from", path, "--model", tiny_model, "--safety-checker", checker, "--json"])
    assert again.code == 0 and not pixels(again.document["pictures"][0]["path"]).any()


def test_a_folder_that_is_no_safety_checker_is_refused_before_anything_is_drawn(
    hvis: Any, tiny_model: Path, tmp_path: Path
) -> None:
    words = ["generate", FOX, "--model", tiny_model, "--safety-checker"]
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["CLIPModel"]}))
    for place, sentence in ((tmp_path, "CLIPModel"), ("absent", "'absent'")):
        said = hvis([*words, place])
        assert said.code in (2, 3) and sentence in said.paragraph and "Traceback" not in said.err
        assert not Path("out").exists() or not list(Path("out").iterdir())


def test_the_judge_is_a_callable_on_finished_pictures(tiny_model: Path, checker: Path) -> None:
    from huggingvis import api

    pictures = hv.generate(FOX, model=tiny_model, device="cpu", sampling=hv.load(tiny_model).defaults)
    judge = api.safety_checker(checker, device="cpu")
    assert judge.flagged(pictures) == [True]
    assert [picture.pixels.any() for picture in map(judge, pictures)] == [False] and pictures[0].pixels.any()


def test_without_metadata_nothing_of_the_prompt_is_in_the_file(hvis: Any, tiny_model: Path) -> None:
    words = ["generate", SECRET, "--negative", NEGATIVE, "--model", tiny_model, "-n", 2, "--grid", *SHORT]
    assert hvis([*words, "--no-metadata", "-o", "bare"]).code == hvis([*words, "-o", "told"]).code == 0
    bare, told = sorted(Path("bare").iterdir()), sorted(Path("told").iterdir())
    assert [path.name for path in bare] == ["00001.png", "00002.png", "00003-grid.png"]
    assert "zyxwv" in told[0].name and says(told[0].read_bytes()) != []
    for one, other in zip(bare, told, strict=True):
        assert says(one.read_bytes()) == [] and Image.open(one).info == {}
        assert np.array_equal(pixels(one), pixels(other))
    hvis(["generate", "--from", told[0], "--model", tiny_model, "--no-metadata", "-o", "again"])
    (again,) = Path("again").iterdir()
    assert says(again.read_bytes()) == [] and np.array_equal(pixels(again), pixels(told[0]))


def says(data: bytes) -> list[str]:
    """Which words of the request, or names of records, the bytes hold, in any encoding that picture files use."""
    words = ("wombat", "Zyxwv", NEGATIVE, "huggingvis", "parameters", "Steps", "small", "Exif", "EXIF", "tEXt", "iTXt")
    codes = ("utf-8", "utf-16-be", "utf-16-le")
    return [word for word in words if any(word.encode(code) in data for code in codes)]


@pytest.mark.parametrize("kind", [".png", ".jpg", ".webp"])
def test_bare_pictures_have_no_chunk_or_exif_in_any_format(kind: str) -> None:
    picture = Picture(np.full((4, 4, 3), 7, np.uint8), Request(Prompt(SECRET, NEGATIVE)), {"model": "small"})
    assert "wombat" in says(encode(picture, kind)) and says(encode(picture.bare(), kind)) == []


def test_export_without_metadata(tmp_path: Path) -> None:
    picture = Picture(np.zeros((4, 4, 3), np.uint8), Request(Prompt(SECRET)), {"model": "small"})
    bare, told = (hv.export([picture], tmp_path, metadata=metadata)[0] for metadata in (False, True))
    assert bare.name == "00001.png" and told.name == "00002-a-wombat-called-zyxwv.png"
    assert says(bare.read_bytes()) == [] and "Zyxwv" in says(told.read_bytes())


CARDS = {
    "---\ntags: [x]\nlicense: creativeml-openrail-m\n---\n# A model": "creativeml-openrail-m",
    '---\nlicense: other\nlicense_name: "stabilityai-ai-community"\n---\n': "stabilityai-ai-community",
    "# A model\nlicense: mit": "",
    "---\nlicense: a\x1b[31m" + "b" * 1000 + "\n---\n": "a [31m" + "b" * 191 + "...",
}


@pytest.mark.parametrize("card", CARDS)
def test_the_licence_of_a_card(card: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(card)
    assert (licence_of({}, tmp_path) or "") == CARDS[card]


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_licence_of_a_model_is_told(hvis: Any, tmp_path: Path) -> None:
    """Of a folder by its card, of a file by its metadata; and it goes into the record of each picture."""
    folder, path = tmp_path / "model", tmp_path / "file.safetensors"
    pipeline().save_pretrained(folder)
    (folder / "README.md").write_text(next(iter(CARDS)))
    save_file(bind_folder(folder, How()), path)
    save_tensors(load(path), path, {**read_header(path).metadata, "modelspec.license": "CreativeML Open RAIL++-M"})
    for model, licence in ((folder, "creativeml-openrail-m"), (path, "CreativeML Open RAIL++-M")):
        assert hvis(["inspect", model, "--json"]).document["licence"] == licence
        assert f"licence       {licence}" in hvis(["inspect", model]).out
        said = hvis(["generate", PROMPT, "--model", model, "--size", 16, "--steps", 1, "--json"])
        (made,) = said.document["pictures"]
        assert made["licence"] == read_provenance(made["path"]).made["licence"] == licence
