"""Labelled grids on the command line and in Python: every cell is the picture that `generate` makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import FOX, pixels
from refusals import refused

from huggingvis import api
from huggingvis.core.axes import Axis
from huggingvis.core.errors import UsageError
from huggingvis.core.request import Canvas, Prompt, Request, Sampling
from huggingvis.export.image import read_provenance


def cells_in(sheet: np.ndarray, side: int, columns: int, top: int, left: int, gap: int = 8) -> np.ndarray:
    """The cell at (top, left) counted in cells from the lower right corner of a sheet."""
    right, bottom = sheet.shape[1] - gap, sheet.shape[0] - gap
    x, y = right - (columns - left) * (side + gap) + gap, bottom - top * (side + gap) - side
    return sheet[y : y + side, x : x + side]


def test_cells_are_the_pictures_of_generate_and_stand_where_their_labels_say(hvis: Any, tiny_model: Path) -> None:
    words = ["--model", tiny_model, "--json"]
    said = hvis(["grid", FOX, "--x", "steps=1,2", "--y", "prompt:fox,pizza", "--z", "seed=5,6", *words])
    assert said.code == 0, said.err
    document = said.document
    assert (document["made"], document["axes"]["x"]) == (8, {"name": "steps", "values": ["1", "2"]})
    requests = [read_provenance(row["pictures"][0]).request() for row in document["rows"]]
    assert [(r.sampling.steps, "pizza to" in r.prompt.text, r.sampling.seed) for r in requests] == [
        (1, False, 5), (2, False, 5), (1, True, 5), (2, True, 5),
        (1, False, 6), (2, False, 6), (1, True, 6), (2, True, 6),
    ]  # fmt: skip
    alone = hvis(["generate", FOX.replace("fox", "pizza"), "--steps", 2, "--seed", 6, *words])
    last = pixels(document["rows"][7]["pictures"][0])
    assert np.array_equal(pixels(alone.document["pictures"][0]["path"]), last)
    sheet = pixels(document["grid"])
    large = last.repeat(4, 0).repeat(4, 1)  # 32 pixels are shown as 128
    assert np.array_equal(cells_in(sheet, 128, 2, 0, 1), large)
    first = pixels(document["rows"][6]["pictures"][0]).repeat(4, 0).repeat(4, 1)
    assert np.array_equal(cells_in(sheet, 128, 2, 0, 0), first)
    assert Path(document["grid"]).name.startswith("grid-a-fox-to-the-left-")


def test_a_grid_goes_on_where_it_was(hvis: Any, tiny_model: Path) -> None:
    words = ["grid", FOX, "--model", tiny_model, "--steps", 1, "--json", "--x"]
    first = hvis([*words, "cfg=1,2"]).document
    more = hvis([*words, "cfg=1-3"]).document
    assert [row["state"] for row in more["rows"]] == ["kept", "kept", "made"]
    assert first["grid"] != more["grid"] and hvis([*words, "cfg=1-3"]).document["grid"] == more["grid"]


def test_a_cell_that_fails_is_grey_and_told(hvis: Any, tiny_model: Path) -> None:
    said = hvis(["grid", FOX, "--model", tiny_model, "--steps", 1, "--x", "width=32,33,40", "--json"])
    assert said.code == 1 and [row["state"] for row in said.document["rows"]] == ["made", "failed", "made"]
    assert "cell 2 failed: width must be a multiple" in said.paragraph
    sheet = pixels(said.document["grid"])
    assert (sheet == 200).all(axis=2).sum() >= 128 * 120


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "A grid needs an axis"),
        (["--x", "steps"], "An axis is a field and its values, as in steps=5,10,20"),
        (["--x", "stpes=1,2"], "no flag or field of a request called 'stpes'. Did you mean 'steps'"),
        (["--x", "steps=1,0"], "cell 2: steps must be between 1 and 10000, found 0"),
        (["--x", "prompt:dog,cat"], "'dog' is to be replaced, but is in neither prompt"),
        (["--x", "seed=1-1001"], "1001 = 1,001 cells, each a picture; at most 1,000 are made unasked"),
        (["--x", "seed=1-4", "--y", "cfg=1-4", "--most-cells", "15"], "allow that many (--most-cells 16)"),
        (["--x", "seed=1,2", "-n", "2"], "A cell of a grid shows one picture, but 2 are asked for"),
        (["--x", "n=1,2"], "A cell of a grid shows one picture, but 2 are asked for"),
        (["--x", "prompt={fox|dog},a {red|blue} cat", "-n", "2"], "shows one picture, but 2 are asked for"),
        (["--x", "lora=absent,other"], "no LoRA called 'absent'"),
        (["--x", "sampler=ddim,eular"], "cell 2: There is no sampler called 'eular'"),
        (["--x", "schedule=karras,karass"], "There is no schedule called 'karass'"),
        (["--x", "seed=1,2", "--from", "a.png"], "leave out --from"),
    ],
)
def test_grids_that_are_none(words: list[str], sentence: str, hvis: Any) -> None:
    refused(hvis(["grid", FOX, "--steps", "1", *words]), 2, sentence)


@pytest.mark.filterwarnings("ignore:The model was trained on pictures of")
def test_in_python(hvis: Any, tiny_model: Path) -> None:
    system = api.load(tiny_model, device="cpu")
    base = Request(Prompt(FOX), Canvas(40, 32), Sampling(steps=1, guidance_scale=2.0, seed=9))
    sheet, done = api.grid(base, x="cfg=1..3:3", y=Axis("size", ("40x32", "32")), folder="cells", model=system)
    requests = [read_provenance(path).request() for path in done.paths]
    assert [r.sampling.guidance_scale for r in requests] == [1.0, 2.0, 3.0] * 2
    assert [r.canvas.width for r in requests] == [40] * 3 + [32] * 3 and {r.sampling.seed for r in requests} == {9}
    want = api.generate(requests[1], model=system)[0].pixels
    assert np.array_equal(pixels(done.paths[1]), want)
    assert sheet.made["grid"]["x"] == {"name": "cfg", "values": ["1", "2", "3"]}
    again, kept = api.grid(base, x="cfg=1..3:3", y=Axis("size", ("40x32", "32")), folder="cells", model=system)
    assert kept.count("kept") == 6 and np.array_equal(again.pixels, sheet.pixels)
    _, done = api.grid(FOX, x="seed=1,2", folder="own", model=system)
    assert read_provenance(done.paths[0]).request().sampling.steps == system.defaults.steps
    with pytest.raises(UsageError, match="A grid needs an axis"):
        api.grid(FOX, model=system)
    with pytest.raises(UsageError, match="A cell of a grid shows one picture, but 3 are asked for"):
        api.grid("a {red|blue} fox", x="n=2,3", model=system)
