"""Retrieval-augmented diffusion on tiny pictures: it learns, loads again, and draws with another database."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import assert_same_weights, course, drawn, folder, train

from huggingvis.app.cli import main
from huggingvis.core.errors import UsageError
from huggingvis.core.request import Canvas, Prompt, Request
from huggingvis.core.system import System
from huggingvis.edits.generate import generate
from huggingvis.recipes.loading import bind_run, measure_of
from huggingvis.recipes.retrieval import Index, Retrieving
from huggingvis.train.run import Run

SMALL: dict[str, Any] = {
    "net": {"channels": [16, 16], "blocks": 1, "attention": [0, 1], "middle": 0, "heads": 2},
    "size": 8,
    "features": "pixels",
    "neighbours": 3,
    "samples": 4,
    "sample_steps": 2,
    "sample_every": 30,
    "warmup": 0,
    "batch": 8,
    "steps": 60,
    "lr": 3e-3,
}


def dots(path: Path, count: int = 12) -> str:
    """Another database: pictures with a bright square, in one folder without classes."""
    path.mkdir()
    for i in range(count):
        pixels = np.full((8, 8, 3), 20, np.uint8)
        pixels[i % 4 : i % 4 + 4, i // 4 : i // 4 + 4] = 250
        Image.fromarray(pixels).save(path / f"{i}.png")
    return f"folder:{path}"


def asked(system: System, **options: str) -> np.ndarray:
    sampling = replace(system.defaults, steps=4, seed=3)
    pictures = generate(system, Request(Prompt(), Canvas(count=2), sampling, options=options))
    return np.stack([p.pixels for p in pictures])


def test_rdm_learns_loads_and_draws_from_another_database(tmp_path: Path) -> None:
    numbers = {**SMALL, "data": folder(tmp_path / "data", 40)}
    run = train("rdm", tmp_path / "run", numbers)
    errors = course(run, "validation.mse")
    assert errors[-1] < errors[0] < 1.5  # the noise itself has a mean square of 1
    system = bind_run(run.path)
    pictures = drawn(system)
    assert pictures.shape == (2, 8, 8, 3) and np.array_equal(pictures, asked(system))
    others = asked(system, database=dots(tmp_path / "dots"))
    assert not np.array_equal(pictures, others)
    assert np.array_equal(asked(system, database=str(run.path / "database.safetensors")), pictures)
    none = asked(system, neighbours="0")
    assert np.array_equal(none, asked(system, neighbours="0", database=f"folder:{tmp_path / 'dots'}"))
    assert not np.array_equal(none, pictures)
    half = train("rdm", tmp_path / "again", {**numbers, "steps": 30})
    assert_same_weights(run, train("rdm", half.path, numbers, resume=True))


def test_classes_are_asked_for_by_pictures_of_them(tmp_path: Path) -> None:
    """An upright bar's neighbours are upright: what a class is told is codes of that class."""
    train("rdm", tmp_path / "run", {**SMALL, "data": folder(tmp_path / "data", 40), "steps": 1})
    system = bind_run(tmp_path / "run")
    index = Index.load(tmp_path / "run" / "database.safetensors")
    model = system.generator(Request(sampling=system.defaults))
    assert isinstance(model, Retrieving) and index.classes == ("lying", "upright") and len(index.features) == 38
    for name in index.classes:
        wanted = system.conditioner([Request(Prompt(name))] * 50)["wanted"]
        rows = model.memory.drawn(torch.rand(50, generator=torch.Generator().manual_seed(0)), wanted)
        assert index.labels is not None
        assert {index.classes[int(i)] for i in index.labels[rows]} == {name}
    assert drawn(system, "upright").shape == (2, 8, 8, 3)
    with pytest.raises(UsageError, match="no class called 'uprigth'. Did you mean 'upright'"):
        drawn(system, "uprigth")
    found = measure_of(Run.open(tmp_path / "run"), torch.device("cpu")).each({"image": torch.zeros(3, 3, 8, 8)}, 2, 0)
    assert found["mse"].shape == (3,) and float(found["mse"].min()) > 0


def test_a_database_of_its_own_and_what_is_refused(tmp_path: Path) -> None:
    data, other = folder(tmp_path / "data", 24), dots(tmp_path / "dots")
    train("rdm", tmp_path / "run", {**SMALL, "data": data, "database": other, "entries": 9, "steps": 1})
    assert len(Index.load(tmp_path / "run" / "database.safetensors").features) == 9
    system = bind_run(tmp_path / "run")
    for options, said in (
        ({"neigbours": "3"}, "no option of this model called 'neigbours'. Did you mean 'neighbours'"),
        ({"neighbours": "few"}, "a count, 0 for none, found 'few'"),
        ({"neighbours": "9"}, "9 neighbours were asked for, but there are 9 pictures"),
        ({"database": "nowhere"}, "no training data called 'nowhere'"),
    ):
        with pytest.raises(UsageError, match=said):
            asked(system, **options)
    with pytest.raises(UsageError, match="trained without words or classes"):
        drawn(system, "upright")
    with pytest.raises(UsageError, match="Train without --conditional"):
        train("rdm", tmp_path / "no", {**SMALL, "data": data, "conditional": True})
    with pytest.raises(UsageError, match="found 3 among 3"):
        train("rdm", tmp_path / "no", {**SMALL, "data": data, "entries": 3})
    with pytest.raises(UsageError, match="off at every level. Turn it on .* --net.middle 1"):
        train("rdm", tmp_path / "no", {**SMALL, "data": data, "net": {**SMALL["net"], "attention": [0, 0]}})


def test_the_command_line_sets_options_and_records_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train("rdm", tmp_path / "run", {**SMALL, "data": folder(tmp_path / "data"), "steps": 1})
    where = ["--model", str(tmp_path / "run"), "-o", str(tmp_path / "out"), "--json"]
    words = ["generate", *where, "--steps", "2"]
    assert main([*words, "--set", f"database={dots(tmp_path / 'dots')}", "--set", "neighbours=2"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["request"]["options"] == {"database": f"folder:{tmp_path / 'dots'}", "neighbours": "2"}
    path = told["pictures"][0]["path"]
    assert main(["generate", "--from", path, *where]) == 0
    assert json.loads(capsys.readouterr().out)["repeats"]["identical"] is True
    assert main([*words, "--set", "neighbours"]) == 2
    assert "--set takes a name and a value" in capsys.readouterr().out
