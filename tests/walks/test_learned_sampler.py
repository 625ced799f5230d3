"""GGDM as a recipe: the numbers of a sampler are trained for a finished model, and its run draws by them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import digits, train

from huggingvis.core.errors import UsageError
from huggingvis.core.request import Canvas, Request
from huggingvis.edits.generate import generate
from huggingvis.recipes.loading import bind_run

NET = {"channels": [8, 8], "blocks": 1, "attention": [0, 0], "middle": 0, "heads": 2}
SMALL = {"size": 8, "batch": 8, "net": NET, "sample_every": 0}
FEW = {"calls": 3, "steps": 6, "batch": 8, "sample_every": 3, "samples": 4}


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The run folder of a small model, and its data."""
    root = tmp_path_factory.mktemp("ggdm")
    data = digits(root / "data")
    numbers = {**SMALL, "data": data, "conditional": False, "steps": 40, "samples": 4, "sample_steps": 2}
    return str(train("ddpm", root / "denoiser", numbers).path), data


def made(path: Path, **numbers: Any) -> np.ndarray:
    system = bind_run(path)
    sampling = replace(system.defaults, **numbers)
    return np.stack([p.pixels for p in generate(system, Request(canvas=Canvas(count=2), sampling=sampling))])


def test_a_run_of_learned_steps_draws_by_them(denoiser: tuple[str, str], tmp_path: Path) -> None:
    folder, data = denoiser
    run = train("ggdm", tmp_path / "run", {**FEW, "denoiser": folder, "data": data})
    system = bind_run(run.path)
    assert (system.defaults.sampler, system.defaults.schedule, system.defaults.steps) == ("learned", "learned", 3)
    learned, ddim = made(run.path), made(run.path, sampler="ddim", schedule="trailing")
    assert learned.shape == (2, 8, 8, 1) and np.array_equal(learned, made(run.path))
    assert not np.array_equal(learned, ddim)
    assert np.array_equal(ddim, made(Path(folder), sampler="ddim", schedule="trailing", steps=3))
    for wrong in ({"steps": 4}, {"sampler": "ddim"}, {"schedule": "trailing"}):
        with pytest.raises(UsageError, match="sampler learned, schedule learned, steps 3"):
            made(run.path, **wrong)
    assert len(list(run.samples.glob("*.png"))) == 2
    logged = [line for line in run.metrics() if "validation.distance" in line]
    assert logged and all(np.isfinite(line["validation.distance"]) for line in logged)


def test_a_training_of_no_steps_is_ddim_and_one_in_two_parts_is_one(denoiser: tuple[str, str], tmp_path: Path) -> None:
    folder, data = denoiser
    numbers = {**FEW, "denoiser": folder, "data": data, "eta": 0.5}
    still = train("ggdm", tmp_path / "still", {**numbers, "lr": 0.0, "steps": 1, "eta": 0.0})
    assert np.array_equal(made(still.path), made(Path(folder), sampler="ddim", schedule="trailing", steps=3))
    whole = train("ggdm", tmp_path / "whole", numbers)
    train("ggdm", tmp_path / "parts", {**numbers, "steps": 3})
    parts = train("ggdm", tmp_path / "parts", numbers, resume=True)
    one, other = whole.weights("numbers"), parts.weights("numbers")
    assert one.keys() == other.keys() == {"kept", "beliefs", "fresh"}
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(one["fresh"], still.weights("numbers")["fresh"])


def test_features_of_a_classifier_and_what_is_refused(denoiser: tuple[str, str], tmp_path: Path) -> None:
    folder, data = denoiser
    judge = train("noisy_classifier", tmp_path / "judge", {**SMALL, "denoiser": folder, "data": data, "steps": 2})
    run = train("ggdm", tmp_path / "run", {**FEW, "denoiser": folder, "data": data, "judge": str(judge.path)})
    by_pixels = train("ggdm", tmp_path / "pixels", {**FEW, "denoiser": folder, "data": data})
    assert not torch.equal(run.weights("numbers")["beliefs"], by_pixels.weights("numbers")["beliefs"])
    for wrong, told in (
        ({"denoiser": ""}, "name its run folder with --denoiser"),
        ({"batch": 1}, "sets of 2 pictures or more"),
        ({"eta": 1.5}, "from 0 .none. to 1"),
        ({"schedule": "nowhere"}, "no schedule called 'nowhere'"),
        ({"calls": 0}, "at least 1 step"),
        ({"judge": folder}, "trains no judge"),
    ):
        with pytest.raises(UsageError, match=told):
            train("ggdm", tmp_path / "wrong", {**FEW, "denoiser": folder, "data": data, **wrong})
        assert not (tmp_path / "wrong").exists()
