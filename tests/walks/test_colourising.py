"""Colourising by small models of coloured pixels, from the command line: the grey stays, and what cannot be is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import pixels
from refusals import refused
from small_runs import digits, folder, train
from source_pictures import load, noise, save

from huggingvis.core.request import Canvas, Colourise, Request
from huggingvis.edits.generate import generate
from huggingvis.recipes.loading import bind_run

SMALL = {
    "net": {"channels": [16], "blocks": 1, "attention": [0], "middle": 0, "heads": 1},
    "samples": 1,
    "sample_steps": 2,
    "warmup": 0,
    "batch": 8,
    "steps": 4,
}
SHORT = ("--steps", 4, "--json")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A score-SDE that saw a few coloured pictures of 8 pixels a side."""
    place = tmp_path_factory.mktemp("coloured")
    return train("score_sde", place / "run", {**SMALL, "size": 8, "data": folder(place / "data")}).path


@pytest.fixture
def grey(tmp_path: Path) -> str:
    return save(tmp_path / "grey.png", noise(8, 8)[:, :, 0])


def made(said: Any) -> np.ndarray:
    assert said.code == 0, said.err
    return pixels(said.document["pictures"][0]["path"])


def test_a_grey_picture_gets_colours_and_keeps_its_grey(hvis: Any, model: Path, grey: str) -> None:
    words = ["generate", "--model", model, "--image", grey, *SHORT]
    plain, often = hvis([*words, "--colourise"]), hvis([*words, "--colourise", "resamples=3,jump=2"])
    assert Request.from_dict(plain.document["request"]).source == Colourise(grey)
    assert Request.from_dict(often.document["request"]).source == Colourise(grey, 2, 3)
    for out in (made(plain), made(often)):
        assert out.shape == (8, 8, 3) and np.array_equal(np.rint(out.mean(2)), load(grey))
        assert (np.ptp(out.astype(int), axis=2) > 8).mean() > 0.5
    assert not np.array_equal(made(plain), made(often))
    path = plain.document["pictures"][0]["path"]
    assert hvis(["generate", "--from", path, "--model", model, "--json"]).document["repeats"]["identical"] is True
    again = hvis(["generate", "--from", path, "--model", model, "--resize-mode", "crop", "--json"])
    assert Request.from_dict(again.document["request"]).source == Colourise(grey, resize="crop")


@pytest.mark.parametrize("sampler", ["pc", "ddim", "dpm++2m", "annealed-langevin"])
def test_the_mean_of_a_coloured_picture_is_its_grey(sampler: str, model: Path, tmp_path: Path) -> None:
    """Whatever the sampler, to the one level that rounding may take; each picture has colours of its own."""
    system, old = bind_run(model), noise(8, 8)
    sampling = replace(system.defaults, sampler=sampler, steps=4)
    source = Colourise(save(tmp_path / "coloured.png", old))
    one, two = (
        p.pixels.astype(int)
        for p in generate(system, Request(canvas=Canvas(count=2), sampling=sampling, source=source))
    )
    for out in (one, two):
        assert np.abs(out.sum(2) - old.astype(int).sum(2)).max() <= 1
        assert not np.array_equal(out, old)
    assert not np.array_equal(one, two)


def test_models_without_coloured_pixels_are_refused(hvis: Any, tiny_model: Path, grey: str, tmp_path: Path) -> None:
    run = train("score_sde", tmp_path / "run", {**SMALL, "data": digits(tmp_path / "data")})
    said = hvis(["generate", "--model", run.path, "--image", grey, "--colourise", *SHORT])
    assert said.code == 2 and "'run' draws grey pictures and knows no colours. Use a model of" in said.paragraph
    said = hvis(["generate", "a red circle", "--model", tiny_model, "--image", grey, "--colourise", *SHORT])
    assert said.code == 2 and "does not work on red, green and blue but on what its KLLatents makes" in said.paragraph
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--colourise"], 2, "--colourise is about a picture to start from: give it with --image"),
        (["--image", "absent.png", "--colourise"], 3, "There is no file absent.png"),
        (["--image", "{text}", "--colourise"], 3, "is not a PNG, JPEG or WebP picture"),
        (["--image", "{grey}", "--colourise", "--strength", 0.5], 2, "--strength does not go with --colourise"),
        (["--image", "{grey}", "--colourise", "--mask", "{grey}"], 2, "--mask does not go with --colourise"),
        (["--image", "{grey}", "--colourise", "resample=2"], 2, "Did you mean 'resamples'"),
        (["--image", "{grey}", "--colourise", "resamples=2"], 2, "A jump of 10 steps has no room in 4 steps"),
        (["--image", "{grey}", "--colourise", "resamples=0"], 2, "source.resamples must be between 1 and"),
        (["--image", "{grey}", "--colorize"], 2, "Did you mean '--colourise'"),
    ],
)
def test_mistakes_are_told(
    words: list[Any], code: int, sentence: str, hvis: Any, model: Path, grey: str, tmp_path: Path
) -> None:
    (tmp_path / "text.png").write_text("no picture")
    told = [str(word).format(grey=grey, text=tmp_path / "text.png") for word in words]
    said = hvis(["generate", "--model", model, *told, *SHORT])
    assert said.code == code and sentence in said.paragraph
    assert "Traceback" not in said.err


def test_a_prompt_after_the_flag_is_told_its_place(hvis: Any, model: Path, grey: str) -> None:
    said = hvis(["generate", "--model", model, "--image", grey, "--colourise", "a red circle"])
    refused(said, 2, "A prompt comes before it")
