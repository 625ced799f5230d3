"""Second pass, windows, tiles and previews from the command line, and what is refused there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import FOX, SHORT, pixels
from PIL import Image

from huggingvis.core.request import Refine, Request


def test_a_second_pass_and_its_record(hvis: Any, tiny_model: Path) -> None:
    words = ["generate", FOX, "--model", tiny_model, "--json", *SHORT]
    said = hvis([*words, "--hires", "1.5", "--refine.steps", 2, "--refine.upscaler", "Latent (bicubic)"])
    assert said.code == 0, said.err
    (made,) = said.document["pictures"]
    assert pixels(made["path"]).shape == (48, 48, 3)
    refine = said.document["request"]["refine"]
    assert (refine["scale"], refine["steps"], refine["upscaler"]) == (1.5, 2, "Latent (bicubic)")
    with Image.open(made["path"]) as image:
        told = str(image.info["parameters"])
    assert "Size: 32x32" in told and "Hires upscale: 1.5, Hires steps: 2, Hires upscaler: Latent (bicubic)" in told
    again = hvis(["generate", "--from", made["path"], "--model", tiny_model, "--json", "-o", "again"]).document
    assert again["repeats"]["identical"]
    larger = hvis(["generate", "--from", made["path"], "--model", tiny_model, "--json", "--hires", "64x48"]).document
    assert pixels(larger["pictures"][0]["path"]).shape == (48, 64, 3) and larger["request"]["refine"]["steps"] == 2
    plain = hvis(["generate", "--from", made["path"], "--model", tiny_model, "--json", "--refine", "none"]).document
    assert plain["request"]["refine"] is None and pixels(plain["pictures"][0]["path"]).shape == (32, 32, 3)


def test_windows_and_tiles(hvis: Any, tiny_model: Path) -> None:
    words = ["generate", FOX, "--model", tiny_model, "--json", "--size", "64x32", *SHORT]
    said = hvis([*words, "--tiles.overlap", "0.5", "--tiles.wrap-x", "--vae-tile", 32])
    assert said.code == 0, said.err
    assert said.document["request"]["tiles"] == {
        "width": None, "height": None, "overlap": 0.5, "wrap_x": True, "wrap_y": False,
    }  # fmt: skip
    assert said.document["request"]["canvas"]["vae_tile"] == 32
    assert pixels(said.document["pictures"][0]["path"]).shape == (32, 64, 3)


def test_previews_are_written(hvis: Any, tiny_model: Path) -> None:
    words = ["generate", FOX, "--model", tiny_model, "--steps", 5, "--json"]
    plain = hvis(words).document
    shown = hvis([*words, "-n", 2, "--preview", "seen/now.png"])
    assert shown.code == 0, shown.err
    assert pixels("seen/now.png").shape[1] > 256  # two pictures on a sheet
    assert np.array_equal(pixels(plain["pictures"][0]["path"]), pixels(shown.document["pictures"][0]["path"]))
    assert hvis([*words, "--preview", "steps", "--preview-every", 2]).code == 0
    assert sorted(path.name for path in Path("steps").iterdir()) == ["00001.png", "00002.png", "00003.png"]
    assert pixels("steps/00001.png").shape[:2] == (256, 256)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--hires", "large"], "--hires 1.5 or 96x64"),
        (["--hires", "9"], "288x288 pixels, but this model makes at most 128"),
        (["--hires", "2", "--refine.upscaler", "esrgan"], "no upscaler called 'esrgan'"),
        (["--hires", "2", "--refine.strength", "2"], "refine.strength must be a number between 0 and 1"),
        (["--refiner-at", "0.5"], "name it with --refiner"),
        (["--refiner", "nowhere/refiner.safetensors"], "nowhere/refiner.safetensors"),
        (["--tiles.width", "30"], "tiles.width must be a multiple of"),
        (["--vae-tile", "9"], "--vae-tile must be"),
        (["--preview-every", "2"], "say where with --preview"),
        (["--preview", "now.png", "--preview-decoder", "nowhere.pth"], "nowhere.pth"),
        (["--preview", "now.png", "--preview-every", "0"], "at least 1"),
    ],
)
def test_what_is_refused(words: list[str], message: str, hvis: Any, tiny_model: Path) -> None:
    said = hvis(["generate", FOX, "--model", tiny_model, *SHORT, *words])
    assert said.code != 0 and message in said.paragraph, said.paragraph
    assert not Path("out").exists()


def test_records_of_before_still_read() -> None:
    old = Request(refine=Refine()).to_dict()
    for name in ("refiner", "tiles"):
        del old[name]
    del old["canvas"]["vae_tile"]
    old["refine"] = {"scale": 2.0, "steps": 20, "strength": 0.4}
    assert Request.from_dict(old) == Request(refine=Refine())
