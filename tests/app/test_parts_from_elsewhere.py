"""A model in three files on the command line and in Python: named, found in folders, recorded, repeated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import pixels
from tiny_pipelines import PROMPT, pipeline

import huggingvis as hv
from huggingvis.core.errors import UsageError
from huggingvis.core.request import Prompt, Request
from huggingvis.export.image import read_provenance
from huggingvis.recipes.addresses import Identities, address, how_loaded

SHORT = ("--steps", 2, "--size", 16, "--precision", "float32", "--json")


@pytest.fixture(scope="module")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of ComfyUI, with the parts of one model in three of them, each a folder of diffusers."""
    whole = tmp_path_factory.mktemp("theirs")
    pipeline().save_pretrained(whole)
    models = tmp_path_factory.mktemp("ComfyUI") / "models"
    for part, kind in (("unet", "diffusion_models/fox"), ("vae", "vae/eyes")):
        (models / kind).parent.mkdir(parents=True, exist_ok=True)
        (whole / part).rename(models / kind)
    (models / "text_encoders").mkdir()
    (whole / "text_encoder" / "model.safetensors").rename(models / "text_encoders" / "clip_l.safetensors")
    return models.parent


def test_names_in_folders_are_recorded_and_repeated(hvis: Any, comfy: Path, tmp_path: Path) -> None:
    named = ("--model", "fox", "--vae", "eyes", "--text-encoder", "clip_l", "--models", comfy)
    said = hvis(["generate", PROMPT, *named, *SHORT])
    assert said.code == 0, said.err
    path = said.document["pictures"][0]["path"]
    told, tower = read_provenance(path).made, comfy / "models/text_encoders/clip_l.safetensors"
    assert [(row["kind"], Path(row["path"]).name) for row in told["files"]] == [
        ("vae", "eyes"), ("text-encoder", "clip_l.safetensors")]  # fmt: skip
    assert len(told["files"][1]["sha256"]) == 64
    repeat = ["generate", "--from", path, "--json", "--precision", "float32"]
    again = hvis(repeat)
    assert again.code == 0 and again.document["repeats"]["identical"] is True, again.err
    (picture,) = hv.generate(
        PROMPT, model=comfy / "models/diffusion_models/fox", vae=comfy / "models/vae/eyes", text_encoder=tower,
        steps=2, size="16x16", precision="float32",
    )  # fmt: skip
    assert np.array_equal(picture.pixels, pixels(path))
    moved = tower.rename(tmp_path / "elsewhere.safetensors")
    try:
        lost = hvis(repeat)
        assert lost.code == 3 and "no text encoder (give it with --text-encoder" in lost.paragraph
        found = hvis([*repeat, "--text-encoder", moved])
        assert found.code == 0 and found.document["repeats"]["identical"] is True, found.err
    finally:
        moved.rename(tower)


def test_batches_tell_models_with_other_text_encoders_apart(tmp_path: Path) -> None:
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    one.write_bytes(b"a tower")
    two.write_bytes(b"another tower")

    def of(*towers: Path) -> str:
        return address(Request(Prompt("a fox")), "model", how_loaded(text_encoder=towers), Identities())

    assert of() == address(Request(Prompt("a fox")), "model", {}, Identities())
    assert len({of(), of(one), of(two), of(one, two)}) == 4
    before = of(one)
    assert of(one.rename(tmp_path / "moved.safetensors")) == before


def test_models_that_take_none_say_so(hvis: Any, comfy: Path) -> None:
    tower = comfy / "models/text_encoders/clip_l.safetensors"
    said = hvis(["generate", PROMPT, "--text-encoder", tower])
    assert said.code == 2 and "has a text encoder of its own or none, and takes no other: leave out" in said.paragraph
    with pytest.raises(UsageError, match="'text_encoder' says how a model is loaded, but this one is loaded already"):
        hv.generate(PROMPT, model=hv.load(), text_encoder=tower)
