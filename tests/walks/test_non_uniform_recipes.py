"""Non-uniform diffusion and models of pairs on tiny pictures: they learn, load, draw, complete, and refuse in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import assert_same_weights, course, digits, drawn, folder, train

from huggingvis.core.components import Components
from huggingvis.core.diffusion import Diffusion
from huggingvis.core.errors import UsageError
from huggingvis.core.media import Picture
from huggingvis.core.noise import SeedNoise
from huggingvis.core.protocols import Completes, Generative
from huggingvis.core.request import Request
from huggingvis.edits.explore.complete import Exploration
from huggingvis.recipes.loading import bind_run, measure_of
from huggingvis.train.run import Run

UNET = {"channels": [16, 16], "blocks": 1, "attention": [0, 0], "middle": 0, "heads": 2}
SMALL = {"samples": 4, "sample_steps": 2, "sample_every": 10, "warmup": 0, "batch": 8, "net": UNET, "size": 8,
         "lr": 3e-3, "ema": 0.9}  # fmt: skip


@pytest.mark.parametrize("numbers", [{}, {"process": "ve", "prediction": "edm"}, {"process": "cosine"}], ids=str)
def test_wavelets_learn_load_and_draw(tmp_path: Path, numbers: dict[str, Any]) -> None:
    data = digits(tmp_path / "data")
    run = train("non_uniform", tmp_path / "run", {**SMALL, "data": data, "steps": 40, **numbers})
    losses = course(run, "validation.mse")
    assert losses[-1] < losses[0] < 3
    system = bind_run(run.path)
    assert system.spec.family == "non_uniform"
    model = system.generator(Request(sampling=system.defaults))
    assert isinstance(model, Diffusion) and model.shape == (4, 4, 4)
    assert isinstance(model.process, Components) and len(model.process.parts) == 2
    pictures = drawn(system, "1")
    assert pictures.shape == (2, 8, 8, 1) and np.array_equal(pictures, drawn(system, "1"))
    batch = {"image": torch.zeros(2, 1, 8, 8), "label": torch.zeros(2, dtype=torch.int64)}
    assert measure_of(Run.open(run.path), torch.device("cpu")).each(batch, 2, 0)["mse"].shape == (2,)


def test_three_bands_of_colour_and_self_conditioning(tmp_path: Path) -> None:
    numbers = {**SMALL, "data": folder(tmp_path / "data"), "speeds": [1.0, 1.5, 3.0], "steps": 10}
    run = train("non_uniform", tmp_path / "run", {**numbers, "net": {**UNET, "self_conditioned": True}})
    assert drawn(bind_run(run.path), "upright").shape == (2, 8, 8, 3)


@pytest.mark.parametrize(
    ("recipe", "numbers", "said"),
    [
        ("non_uniform", {"speeds": [1.0]}, "found \\[1.0\\]"),
        ("non_uniform", {"speeds": [1.0, 0.5]}, "would not be noise at its end"),
        ("non_uniform", {"prediction": "eps"}, "Predict v, x0 or edm"),
        ("non_uniform", {"speeds": [1.0, 2.0, 2.0]}, "multiple of 8"),
        ("cmde", {"speed": 0.0}, "ask for --estimator clean"),
        ("cmde", {"conditional": True}, "a picture and no class"),
        ("cmde", {"task": "colour"}, "these are grey"),
        ("cmde", {"task": "enlarge", "factor": 3}, "cannot be made 3 times smaller"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, recipe: str, numbers: dict[str, Any], said: str) -> None:
    side = {"size": 12} if "multiple" in said else {}
    with pytest.raises(UsageError, match=said):
        train(recipe, tmp_path / "run", {**SMALL, **side, "data": digits(tmp_path / "data"), **numbers})


@pytest.mark.parametrize(
    "numbers",
    [
        {"estimator": "clean"},
        {"estimator": "noisy", "speed": 0.3},
        {"estimator": "noisy", "speed": 1.0, "process": "ve"},
        {"estimator": "clean", "net": {**UNET, "self_conditioned": True}, "task": "enlarge"},
        {"estimator": "noisy", "net": {**UNET, "self_conditioned": True}, "task": "enlarge"},
    ],
    ids=lambda n: "-".join(str(v) for v in n.values() if not isinstance(v, dict)),
)
def test_models_of_pairs_learn_load_and_complete(tmp_path: Path, numbers: dict[str, Any]) -> None:
    run = train("cmde", tmp_path / "run", {**SMALL, "data": digits(tmp_path / "data"), "steps": 30, **numbers})
    losses = course(run, "validation.mse")
    assert losses[-1] < losses[0] < 2
    system = bind_run(run.path)
    system = replace(system, defaults=replace(system.defaults, steps=6))
    model = system.generator(Request(sampling=system.defaults))
    assert isinstance(model, Completes) and isinstance(model, Generative)
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        one, again, other = (model.complete(x, noise=SeedNoise(seeds)) for seeds in ([1, 2], [1, 2], [3, 4]))
        alone = model.complete(x[1:], noise=SeedNoise([2]))
    seen = model.seen(x).expand_as(x)
    assert torch.equal(one, again) and torch.equal(one[seen], x[seen]) and not torch.equal(one, other)
    assert torch.allclose(one[1:], alone, atol=1e-4)
    found = Exploration(draws=1)(system, [Picture.from_signal(picture.numpy()) for picture in x])
    assert len(found.tiles.pictures) == 8 and "of 2 pictures seen" in found.text
    told = measure_of(Run.open(run.path), torch.device("cpu")).each({"image": x}, 2, 0)
    assert set(told) == {"mse", "psnr"} and bool(torch.isfinite(told["psnr"]).all())
    assert "sample" not in system.verbs
    with pytest.raises(UsageError, match="draws none of nothing"):
        drawn(system)


def test_pictures_are_coloured(tmp_path: Path) -> None:
    numbers = {**SMALL, "data": folder(tmp_path / "data"), "task": "colour", "steps": 4, "sample_every": 0}
    straight = train("cmde", tmp_path / "straight", numbers)
    train("cmde", tmp_path / "broken", {**numbers, "steps": 2})
    assert_same_weights(straight, train("cmde", tmp_path / "broken", numbers, resume=True))
    model = bind_run(straight.path).generator(Request())
    assert isinstance(model, Completes) and not bool(model.seen(torch.zeros(1, 3, 8, 8)).any())
