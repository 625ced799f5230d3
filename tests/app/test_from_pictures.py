"""Pictures to start from on the command line: every flag reaches the record, which repeats the picture to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import pixels
from doc_pages import blocks
from PIL import Image
from source_pictures import box_mask, load, noise, save

from huggingvis.core.request import Inpaint, Outpaint, Request

SHORT = ("--steps", 4, "--json")


@pytest.fixture
def picture(tmp_path: Path) -> str:
    return save(tmp_path / "in.png", noise(32, 32))


@pytest.fixture
def mask(tmp_path: Path) -> str:
    return save(tmp_path / "mask.png", box_mask(32, 32))


def source(said: Any) -> Any:
    assert said.code == 0, said.err
    return Request.from_dict(said.document["request"]).source


def made(said: Any) -> np.ndarray:
    assert said.code == 0, said.err
    return pixels(said.document["pictures"][0]["path"])


def test_a_mask_and_how_it_is_filled(hvis: Any, tiny_model: Path, picture: str, mask: str) -> None:
    words = ["generate", "a red circle", "--model", tiny_model, "--image", picture, "--mask", mask, *SHORT]
    plain = hvis(words)
    assert source(plain) == Inpaint(picture, mask)
    how = "method=repaint,jump=2,resamples=2,soft,blur=1.5,paste=yes"
    said = hvis([*words, "--inpaint", how, "--strength", 0.75, "--resize-mode", "crop"])
    wanted = Inpaint(picture, mask, 0.75, "repaint", soft=True, blur=1.5, jump=2, resamples=2, resize="crop")
    assert source(said) == wanted
    out = made(said)
    assert np.array_equal(out[0], load(picture)[0]) and not np.array_equal(out, made(plain))
    path = said.document["pictures"][0]["path"]
    again = hvis(["generate", "--from", path, "--model", tiny_model, "--json"])
    assert again.document["repeats"]["identical"] is True
    changed = hvis(["generate", "--from", path, "--model", tiny_model, "--inpaint", "method=blend", "--json"])
    assert source(changed) == Inpaint(
        picture, mask, 0.75, "blend", soft=True, blur=1.5, jump=2, resamples=2, resize="crop"
    )


def test_new_canvas(hvis: Any, tiny_model: Path, picture: str) -> None:
    words = ["generate", "a red circle", "--model", tiny_model, "--image", picture, *SHORT]
    every = hvis([*words, "--outpaint", 8])
    assert source(every) == Outpaint(picture, 8, 8, 8, 8)
    assert np.array_equal(made(every)[8:40, 8:40], load(picture)) and made(every).shape == (48, 48, 3)
    some = hvis([*words, "--outpaint", "left=5,bottom=3,seam=2,ground=blur", "--strength", 0.75])
    assert source(some) == Outpaint(picture, left=5, bottom=3, seam=2, ground="blur", strength=0.75)
    assert made(some).shape == (35, 37, 3)
    again = hvis(["generate", "--from", some.document["pictures"][0]["path"], "--model", tiny_model, "--json"])
    assert again.document["repeats"]["identical"] is True


def test_strength_0_gives_the_picture_back(hvis: Any, tiny_model: Path, picture: str) -> None:
    said = hvis(["generate", "a red circle", "--model", tiny_model, "--image", picture, "--strength", 0, *SHORT])
    assert np.array_equal(made(said), load(picture))


def test_a_moving_picture_is_told_of(hvis: Any, tiny_model: Path, tmp_path: Path) -> None:
    first = Image.fromarray(noise(32, 32))
    first.save(tmp_path / "moving.webp", save_all=True, append_images=[first.rotate(180)], lossless=True)
    said = hvis(["generate", "a red circle", "--model", tiny_model, "--image", tmp_path / "moving.webp", *SHORT])
    assert any("moving.webp is a moving picture of 2 frames" in note for note in said.document["notes"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--outpaint", 8], "--outpaint is about a picture to start from: give it with --image"),
        (["--resize-mode", "crop"], "--resize-mode is about a picture to start from"),
        (["--image", "{picture}", "--inpaint", "soft"], "give the mask with --mask"),
        (["--image", "{picture}", "--mask", "{mask}", "--outpaint", 8], "--mask does not go with --outpaint"),
        (["--image", "{picture}", "--resize-mode", "crop", "--outpaint", 8], "does not go with --outpaint"),
        (["--image", "{picture}", "--outpaint", 8, "--inpaint"], "--inpaint does not go with --outpaint"),
        (["--image", "{picture}", "--mask", "{mask}", "--inpaint", "metod=blend"], "'method'"),
        (["--image", "{picture}", "--mask", "{mask}", "--inpaint", "blur"], "takes blur with a value"),
        (["--image", "{picture}", "--mask", "{mask}", "--inpaint", "method=blended"], "'blend'"),
        (["--image", "{picture}", "--mask", "{mask}", "--inpaint", "padding=many"], "'padding' must be a whole number"),
        (["--image", "{picture}", "--outpaint", "left=0"], "grow by no pixel at any side"),
        (["--image", "{picture}", "--outpaint", "left=-8"], "source.left must be between 0"),
        (["--image", "{picture}", "--outpaint", "left=8", "--size", 32], "Leave the size out"),
        (["--image", "{picture}", "--outpaint", 2000], "draws at most 128 a side"),
        (["--image", "{picture}", "--resize-mode", "squash"], "resize mode"),
        (["--image", "{picture}", "--strength", 1.5], "source.strength must be a number between 0 and 1"),
        (["--image", "{picture}", "--mask", "{mask}", "--inpaint", "method=repaint"], "A jump of 10 steps has no room"),
    ],
)
def test_mistakes_are_told_in_a_paragraph(
    words: list[Any], sentence: str, hvis: Any, tiny_model: Path, picture: str, mask: str
) -> None:
    told = [str(word).format(picture=picture, mask=mask) for word in words]
    said = hvis(["generate", "a red circle", "--model", tiny_model, *told, *SHORT])
    assert said.code == 2 and sentence in said.paragraph
    assert "Traceback" not in said.err


def test_the_example_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "hole.png", box_mask(64, 64))
    (body,) = blocks("docs/from-pictures.md", "python")
    told: dict[str, Any] = {}
    exec(
        compile(body.replace("hv.generate(Request", "two = hv.generate(Request"), "docs/from-pictures.md", "exec"), told
    )
    start, known = load(told["hole"].path), load("hole.png") == 0
    first, second = (picture.pixels for picture in told["two"])
    assert np.array_equal(first[known], start[known]) and np.array_equal(second[known], start[known])
    assert not np.array_equal(first, second) and (first[~known] != start[~known]).mean() > 0.5


def test_the_shipped_model_draws_without_a_plan_where_asked(hvis: Any) -> None:
    words = ["generate", "a fox", "--steps", 4, "--json"]
    planned, free = made(hvis(words)), made(hvis([*words, "--set", "plan=no"]))
    assert not np.array_equal(planned, free) and np.array_equal(planned, made(hvis([*words, "--set", "plan=yes"])))
    said = hvis([*words, "--set", "plan=maybe"])
    assert said.code == 2 and "plan is yes or no, found 'maybe'" in said.paragraph
