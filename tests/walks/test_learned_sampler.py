"""GGDM as a recipe: the numbers of a sampler are trained for a finished model, and its run draws by them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import digits, folder, train

from huggingvis.core.catalog import find_recipe
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.media import Picture
from huggingvis.core.request import Canvas, Prompt, Request
from huggingvis.edits.generate import fingerprint, generate
from huggingvis.recipes.comparing import Comparison, compare_samplers
from huggingvis.recipes.drawing_by_name import Drawing
from huggingvis.recipes.loading import bind_run
from huggingvis.recipes.sources import Facts
from huggingvis.train.run import Run

NET = {"channels": [8, 8], "blocks": 1, "attention": [0, 0], "middle": 0, "heads": 2}
SMALL = {"size": 8, "batch": 8, "net": NET, "sample_every": 0, "warmup": 0}
FEW = {"calls": 3, "steps": 6, "batch": 8, "sample_every": 3, "samples": 4}


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The run folder of a small model, and its data."""
    root = tmp_path_factory.mktemp("ggdm")
    data = digits(root / "data")
    numbers = {**SMALL, "data": data, "conditional": False, "steps": 40, "ema": 0.9, "samples": 4, "sample_steps": 2}
    return str(train("ddpm", root / "denoiser", numbers).path), data


def made(path: Path, **numbers: Any) -> np.ndarray:
    system = bind_run(path)
    sampling = replace(system.defaults, **numbers)
    return np.stack([p.pixels for p in generate(system, Request(canvas=Canvas(count=2), sampling=sampling))])


def test_a_run_of_learned_steps_draws_by_them(denoiser: tuple[str, str], tmp_path: Path) -> None:
    model, data = denoiser
    run = train("ggdm", tmp_path / "run", {**FEW, "denoiser": model, "data": data})
    system = bind_run(run.path)
    assert (system.defaults.sampler, system.defaults.schedule, system.defaults.steps) == ("learned", "learned", 3)
    learned, ddim = made(run.path), made(run.path, sampler="ddim", schedule="trailing")
    assert learned.shape == (2, 8, 8, 1) and np.array_equal(learned, made(run.path))
    assert not np.array_equal(learned, ddim)
    assert np.array_equal(ddim, made(Path(model), sampler="ddim", schedule="trailing", steps=3))
    assert np.array_equal(ddim, made(run.path, sampler="ddim"))  # on the schedule that the steps were learned on
    for wrong in ({"steps": 4}, {"schedule": "trailing"}):
        with pytest.raises(UsageError, match="sampler learned, schedule learned, steps 3"):
            made(run.path, **wrong)
    assert len(list(run.samples.glob("*.png"))) == 2
    logged = [line for line in run.metrics() if "validation.distance" in line]
    assert logged and all(np.isfinite(line["validation.distance"]) for line in logged)


def test_learned_steps_are_compared_with_others_at_their_own_number(denoiser: tuple[str, str], tmp_path: Path) -> None:
    model, data = denoiser
    system = bind_run(train("ggdm", tmp_path / "run", {**FEW, "steps": 1, "denoiser": model}).path)
    assert Facts.of(Run.open(tmp_path / "run")).data == data  # that of the model, where none is named
    record = compare_samplers(system, Comparison(("learned", "ddim"), (3, 6), count=1, fine=6)).record
    assert [(row["sampler"], row["nfe"]) for row in record["rows"]] == [("learned", 3), ("ddim", 3), ("ddim", 6)]
    (left,) = record["left_out"]
    assert (left["sampler"], left["nfe"]) == ("learned", 6) and "steps 3" in left["reason"]
    drawn = Drawing(system, None, system.defaults.seed, ["", ""])("learned", 3).pictures
    pixels = np.stack([Picture.from_signal(x.numpy()).pixels for x in drawn])
    assert np.array_equal(pixels, made(tmp_path / "run"))
    cells = Comparison(("all",), (3,), fine=6).plan(system).cells
    assert {"learned", "ddim", "heun"} <= {cell.kind.name for cell in cells}
    with pytest.raises(UsageError, match="'learned'"):
        Comparison(("learned",)).plan(bind_run(Path(model)))


def test_a_training_of_no_steps_is_ddim_and_one_in_two_parts_is_one(denoiser: tuple[str, str], tmp_path: Path) -> None:
    model, data = denoiser
    numbers = {**FEW, "denoiser": model, "data": data, "eta": 0.5}
    still = train("ggdm", tmp_path / "still", {**numbers, "lr": 0.0, "steps": 1, "eta": 0.0})
    assert np.array_equal(made(still.path), made(Path(model), sampler="ddim", schedule="trailing", steps=3))
    noisy = train("ggdm", tmp_path / "noisy", {**numbers, "lr": 0.0, "steps": 1})
    assert np.array_equal(made(noisy.path), made(Path(model), sampler="ddim", schedule="trailing", steps=3, eta=0.5))
    with pytest.raises(UsageError, match="was trained .eta 0.5."):
        made(noisy.path, eta=1.0)
    whole = train("ggdm", tmp_path / "whole", numbers)
    train("ggdm", tmp_path / "parts", {**numbers, "steps": 3})
    parts = train("ggdm", tmp_path / "parts", numbers, resume=True)
    one, other = whole.weights("numbers"), parts.weights("numbers")
    assert one.keys() == other.keys() == {"kept", "beliefs", "fresh"}
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(one["fresh"], still.weights("numbers")["fresh"])
    marks = [fingerprint(bind_run(path)) for path in (Path(model), still.path, noisy.path, whole.path, parts.path)]
    assert len(set(marks)) == 4 and marks[3] == marks[4]  # what is kept of one training is not taken for another's


def test_features_of_a_classifier_and_what_is_refused(denoiser: tuple[str, str], tmp_path: Path) -> None:
    model, data = denoiser
    judge = train("noisy_classifier", tmp_path / "judge", {**SMALL, "denoiser": model, "data": data, "steps": 2})
    run = train("ggdm", tmp_path / "run", {**FEW, "denoiser": model, "data": data, "judge": str(judge.path)})
    by_pixels = train("ggdm", tmp_path / "pixels", {**FEW, "denoiser": model, "data": data})
    assert not torch.equal(run.weights("numbers")["beliefs"], by_pixels.weights("numbers")["beliefs"])
    photos = {"data": folder(tmp_path / "photos"), **SMALL, "steps": 1, "samples": 1, "sample_steps": 1}
    colour = train("ddpm", tmp_path / "colour", {**photos, "conditional": False})
    plain = {name: photos[name] for name in (*SMALL, "data", "steps")}
    other = train("noisy_classifier", tmp_path / "other", {**plain, "denoiser": str(colour.path), "columns": 1})
    for wrong, told in (
        ({"judge": str(other.path)}, "cannot look at pictures .8, 1, 8, 8. .* --judge"),
        ({"denoiser": ""}, "name its run folder with --denoiser"),
        ({"batch": 1}, "at least 2 images"),
        ({"eta": 1.5}, "--eta, goes from 0 .none. to 1"),
        ({"schedule": "restart", "calls": 24}, "goes back on its way"),
        ({"denoiser": str(tmp_path / "moved")}, "--denoiser"),
        ({"denoiser": str(judge.path)}, "guided by a classifier"),
        ({"schedule": "nowhere"}, "no schedule called 'nowhere'"),
        ({"calls": 0}, "at least 1 step"),
        ({"judge": model}, "trains no judge"),
    ):
        with pytest.raises((UsageError, FileProblem), match=told):
            train("ggdm", tmp_path / "wrong", {**FEW, "denoiser": model, "data": data, **wrong})
        assert not (tmp_path / "wrong").exists()


def test_a_model_of_classes_learns_its_steps_with_them(denoiser: tuple[str, str], tmp_path: Path) -> None:
    """Each batch is drawn as its own classes, so that their order among the data decides what is learnt."""
    data = folder(tmp_path / "data", colour=False)
    numbers = {
        **SMALL,
        "data": data,
        "channels": 1,
        "steps": 60,
        "lr": 3e-3,
        "ema": 0.9,
        "samples": 4,
        "sample_steps": 2,
    }
    model = train("ddpm", tmp_path / "denoiser", numbers)
    asked = {**FEW, "denoiser": str(model.path), "data": data}
    run = train("ggdm", tmp_path / "run", asked)
    system = bind_run(run.path)

    def drawn(prompt: str) -> list[np.ndarray]:
        return [p.pixels for p in generate(system, Request(Prompt(prompt), Canvas(count=2), system.defaults))]

    assert not np.array_equal(drawn("upright"), drawn("lying"))
    with pytest.raises(UsageError, match="knows the classes lying, upright, but the pictures .* --data"):
        train("ggdm", tmp_path / "wrong", {**asked, "data": denoiser[1]})
    told = find_recipe("ggdm").Told.of(system, ("lying", "upright"), Facts.of(run))
    vector = told({"image": torch.zeros(3, 1, 8, 8), "label": torch.tensor([1, 0, 1])})["vector"]
    assert vector.tolist() == [[0, 1], [1, 0], [0, 1]] == told.each(5)["vector"][1:4].tolist()
