"""`hvis generate` as users call it: what it says, what a picture records, and the same picture again."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import FOX, SHORT, pixels

from huggingvis.core.config import to_dict
from huggingvis.core.request import Prompt, Sampling


def test_generate_says_where_the_pictures_are_and_what_the_model_does_not_know(hvis: Any, tiny_model: Path) -> None:
    said = hvis(["generate", "a fox beside a gizmo", "--model", tiny_model, "-n", 2, "-o", "new/out", "--grid", *SHORT])
    assert said.code == 0, said.err
    paths = [line.split("  ")[0] for line in said.out.splitlines()]
    assert paths[:2] == ["new/out/00001-a-fox-beside-a-gizmo.png", "new/out/00002-a-fox-beside-a-gizmo.png"]
    assert paths[2] == "new/out/00003-grid-a-fox-beside-a.png"
    assert "2 pictures in" in said.out.splitlines()[-1] and "(seed 1," in said.out
    assert [pixels(path).shape for path in paths[:2]] == [(32, 32, 3)] * 2
    assert "'gizmo'" in said.paragraph and "does not know" in said.paragraph


def test_flags_reach_the_request_and_labels_of_other_programs_are_understood(hvis: Any, tiny_model: Path) -> None:
    words = [
        "--sampler",
        "DPM++ 2M Karras",
        "--guidance_scale",
        "1.5",
        "--width",
        "48",
        "--negative",
        "pizza",
        "--seed=5",
    ]
    said = hvis(["generate", *words, FOX, "--model", tiny_model, "--json", *SHORT])
    assert said.code == 0, said.err
    document = said.document
    assert document["request"]["sampling"] == {
        **to_dict(Sampling()), "sampler": "dpm++2m", "schedule": "karras", "steps": 3, "guidance_scale": 1.5,
        "guidance_interval": [0.0, 1.0], "seed": 5,
    }  # fmt: skip
    assert document["request"]["prompt"] == to_dict(Prompt(FOX, "pizza"))
    (made,) = document["pictures"]
    assert (made["seed"], made["batch_index"], made["model"]) == (5, 0, "small")
    assert pixels(made["path"]).shape == (32, 48, 3)
    (note,) = document["notes"]
    assert document["seconds"]["sample"] > 0 and "trained on pictures of 32x32 pixels; at 48x32" in note
    assert made["notes"] == [note]


def test_a_size_is_said_in_one_word_or_in_two(hvis: Any, tiny_model: Path) -> None:
    words = ["generate", FOX, "--model", tiny_model, "--steps", 1, "--json"]
    assert pixels(hvis([*words, "--size", "48x40"]).document["pictures"][0]["path"]).shape == (40, 48, 3)
    square = hvis([*words, "--size=40"]).document
    assert (square["request"]["canvas"]["width"], square["request"]["canvas"]["height"]) == (40, 40)
    assert "--size 96x64" in hvis([*words, "--size", "large"]).paragraph


def test_numbers_not_given_are_the_models_own(hvis: Any, tiny_model: Path) -> None:
    from huggingvis.systems.tiny import DEFAULTS

    sampling = hvis(["generate", FOX, "--model", tiny_model, "--json", "--steps", 2]).document["request"]["sampling"]
    assert (sampling["guidance_scale"], sampling["sampler"]) == (DEFAULTS.guidance_scale, DEFAULTS.sampler)


def test_a_picture_repeats_from_its_own_record_bit_for_bit(hvis: Any, tiny_model: Path) -> None:
    first = hvis(["generate", FOX, "--model", tiny_model, "-n", 3, "--json", "--sampler", "euler a", *SHORT]).document
    second = first["pictures"][1]
    again = hvis(["generate", "--from", second["path"], "--model", tiny_model, "-o", "again", "--json"]).document
    assert again["repeats"] == {"path": second["path"], "identical": True, "largest_difference": 0}
    assert np.array_equal(pixels(again["pictures"][0]["path"]), pixels(second["path"]))
    assert not np.array_equal(pixels(first["pictures"][0]["path"]), pixels(second["path"]))
    assert again["pictures"][0]["weights"] == second["weights"] and again["notes"] == []


def test_the_same_request_with_other_numbers_starts_from_the_record(hvis: Any, tiny_model: Path) -> None:
    first = hvis(["generate", FOX, "--model", tiny_model, "-n", 2, "--seed", 4, "--json", *SHORT]).document
    path = first["pictures"][1]["path"]
    more = hvis(["generate", "--from", path, "--model", tiny_model, "--steps", 5, "--json"]).document
    assert more["request"]["sampling"]["steps"] == 5 and more["request"]["sampling"]["seed"] == 5
    assert more["request"]["prompt"]["text"] == FOX and len(more["pictures"]) == 1


def test_repeating_with_other_weights_says_so(hvis: Any, tiny_model: Path, tmp_path: Path) -> None:
    import shutil

    import torch

    from huggingvis.checkpoints.io import load, save

    other = Path(shutil.copytree(tiny_model, tmp_path / "other"))
    tensors = load(other / "unet.safetensors")
    save(other / "unet.safetensors", {key: value + torch.full_like(value, 0.05) for key, value in tensors.items()})
    path = hvis(["generate", FOX, "--model", tiny_model, "--json", *SHORT]).document["pictures"][0]["path"]
    again = hvis(["generate", "--from", path, "--model", other, "--json"]).document
    assert not again["repeats"]["identical"] and again["repeats"]["largest_difference"] > 0
    assert len(again["notes"]) == 1 and "with other weights" in again["notes"][0]


def test_python_gives_the_pixels_of_the_command_line(hvis: Any, tiny_model: Path) -> None:
    import huggingvis as hv
    from huggingvis.systems.tiny import DEFAULTS

    path = hvis(["generate", FOX, "--model", tiny_model, "--json", *SHORT]).document["pictures"][0]["path"]
    sampling = replace(DEFAULTS, steps=3)
    (picture,) = hv.generate(FOX, model=tiny_model, sampling=sampling, device="cpu")
    assert np.array_equal(picture.pixels, pixels(path))
    (saved,) = hv.export([picture], "out")
    assert saved.name == "00002-a-fox-to-the-left.png"


def test_python_is_told_what_the_command_line_is_told(hvis: Any, tiny_model: Path) -> None:
    import huggingvis as hv
    from huggingvis.core.request import Canvas, Prompt, Request
    from huggingvis.systems.tiny import DEFAULTS

    asked = Request(Prompt("a fox beside a gizmo"), Canvas(width=48), replace(DEFAULTS, steps=1))
    words = ["generate", asked.prompt.text, "--width", 48, "--steps", 1, "--model", tiny_model, "--json"]
    notes = hvis(words).document["notes"]
    with pytest.warns(UserWarning) as heard:
        (picture,) = hv.generate(asked, model=tiny_model, device="cpu")
    assert [str(warning.message) for warning in heard] == notes == picture.made["notes"]
    assert [warning.filename for warning in heard] == [__file__] * len(notes)
    assert "'beside'" in notes[0] and "'gizmo'" in notes[1] and "hvis catalog words" in notes[1] and "48x32" in notes[2]
    with warnings.catch_warnings(action="error"):
        (plain,) = hv.generate(FOX, model=tiny_model, sampling=asked.sampling, device="cpu")
    assert "notes" not in plain.made


def test_a_picture_does_not_depend_on_how_many_are_made(hvis: Any, tiny_model: Path) -> None:
    import huggingvis as hv
    from huggingvis.core.request import Sampling

    sampling = Sampling(steps=2, sampler="Euler a")
    system = hv.load(tiny_model, device="cpu")
    ten = hv.generate(FOX, model=system, count=10, sampling=sampling)
    (ninth,) = hv.generate(FOX, model=system, seed=8, sampling=sampling)
    apart = np.abs(ten[8].pixels.astype(int) - ninth.pixels.astype(int)).max()
    assert apart <= 1 and ten[8].made["seed"] == 8 and ten[8].made["batch_index"] == 8


def test_the_packaged_model_draws_in_both_languages_and_repeats(hvis: Any) -> None:
    for sentence in (FOX, "狐狸在披萨的左边"):
        document = hvis(["generate", sentence, "--seed", 7, "--json"]).document
        assert document["notes"] == []
        picture = pixels(document["pictures"][0]["path"])
        assert picture.std() > 10
        again = hvis(["generate", "--from", document["pictures"][0]["path"], "-o", "again", "--json"]).document
        assert again["repeats"]["identical"]


def test_the_packaged_model_names_words_it_does_not_know(hvis: Any) -> None:
    notes = hvis(["generate", "a fox to the left of a trombone", "--steps", 2, "--json"]).document["notes"]
    assert len(notes) == 1 and "'trombone'" in notes[0]
