"""Cold and soft diffusion on tiny pictures: they learn, load, begin from nothing, resume, measure, refuse in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as File

import numpy as np
import pytest
import torch
from small_runs import assert_same_weights, course, digits, drawn, folder, train

from huggingvis.core import config as records
from huggingvis.core.errors import UsageError
from huggingvis.core.request import Canvas, Request
from huggingvis.edits.generate import generate
from huggingvis.processes.blur import Path
from huggingvis.recipes.loading import bind_run, measure_of
from huggingvis.recipes.sources import View, open_source
from huggingvis.train.run import Run

UNET = {"channels": [16, 16], "blocks": 1, "attention": [0, 0], "middle": 0, "heads": 1}
SMALL = {"samples": 4, "sample_steps": 2, "sample_every": 10, "warmup": 0, "batch": 16, "net": UNET, "steps": 40,
         "lr": 3e-3, "ema": 0.9, "levels": 4, "components": 2, "blur": 0.15}  # fmt: skip


def pictures_of(run: Run) -> torch.Tensor:
    """16 of its training pictures."""
    image: torch.Tensor = open_source(run.config["config"]["data"], View()).training.batch(0, 16)["image"]
    return image


def test_cold_learns_loads_and_draws(tmp_path: File) -> None:
    run = train("cold", tmp_path / "run", {**SMALL, "data": digits(tmp_path / "data")})
    losses = course(run, "validation.l1")
    assert losses[-1] < 0.8 * losses[0]
    system = bind_run(run.path)
    assert (system.defaults.sampler, system.defaults.schedule, system.defaults.steps) == ("momentum", "uniform", 4)
    assert system.limits.samplers == ("momentum", "momentum-ode", "naive")
    assert set(system.limits.schedules) == {"uniform", "shifted"}
    pictures = drawn(system)
    assert pictures.shape == (2, 12, 12, 1) and np.array_equal(pictures, drawn(system))
    assert not np.array_equal(pictures[0], pictures[1])  # a mixture of ends, and no two of them alike
    with pytest.raises(UsageError, match="momentum"):
        generate(system, Request(sampling=replace(system.defaults, sampler="dpm++2m")))
    with pytest.raises(UsageError, match=r"\[1, 12, 12\]"):
        generate(system, Request(canvas=Canvas(16, 16), sampling=system.defaults))


def test_a_cold_run_tells_how_well_each_algorithm_restores(tmp_path: File) -> None:
    numbers = {**SMALL, "data": digits(tmp_path / "data"), "steps": 50, "sample_every": 0}
    run = train("cold", tmp_path / "run", numbers)
    told = measure_of(Run.open(run.path), torch.device("cpu")).each({"image": pictures_of(run)}, 2, 0)
    ways = ("degraded", "algorithm_1", "algorithm_2", "direct")
    assert set(told) == {f"{kind}_{way}" for kind in ("rmse", "psnr", "ssim") for way in ways} | {"l1"}
    assert float(told["rmse_direct"].mean()) < 0.8 * float(told["rmse_degraded"].mean())
    assert float(told["rmse_algorithm_2"].mean()) < float(told["rmse_degraded"].mean())
    mse = 4 * told["rmse_direct"] ** 2
    assert told["psnr_direct"].tolist() == pytest.approx((10 * torch.log10(4 / mse)).tolist())


@pytest.mark.parametrize("degradation", ["mask", "pixelate", "fade", "decolour"])
def test_every_degradation_is_trained_and_drawn_from(tmp_path: File, degradation: str) -> None:
    data = folder(tmp_path / "data", colour=True)
    numbers = {**SMALL, "data": data, "size": 10, "degradation": degradation, "sample_every": 0, "steps": 8}
    run = train("cold", tmp_path / "run", numbers)
    pictures = drawn(bind_run(run.path))
    assert pictures.shape == (2, 10, 10, 3) and np.array_equal(pictures, drawn(bind_run(run.path)))


@pytest.mark.parametrize("blur", [0.3, 0.0])
def test_soft_learns_loads_and_draws(tmp_path: File, blur: float) -> None:
    run = train(
        "soft",
        tmp_path / "run",
        {**SMALL, "data": digits(tmp_path / "data"), "blur": blur, "steps": 60, "sample_every": 20},
    )
    losses = course(run, "validation.soft")
    assert losses[-1] < 0.85 * losses[0]
    path = records.load(Path, run.path / "path.toml")
    assert (path.widths[-1], path.sigmas[-1]) == pytest.approx((blur, 0.1)) and len(path.sigmas) == 401
    system = bind_run(run.path)
    assert system.defaults.sampler == "momentum"
    pictures = drawn(system)
    assert pictures.shape == (2, 12, 12, 1) and np.array_equal(pictures, drawn(system))
    told = measure_of(Run.open(run.path), torch.device("cpu")).each({"image": pictures_of(run)}, 3, 0)
    assert told["soft"].shape == (16,) and float(told["soft"].mean()) < losses[0]


@pytest.mark.parametrize("recipe", ["cold", "soft"])
def test_resumed_with_what_was_fitted(tmp_path: File, recipe: str) -> None:
    numbers = {**SMALL, "data": digits(tmp_path / "data"), "sample_every": 0}
    straight = train(recipe, tmp_path / "straight", {**numbers, "steps": 4})
    train(recipe, tmp_path / "broken", {**numbers, "steps": 2})
    kept = {file.name: file.read_bytes() for file in (tmp_path / "broken").iterdir() if file.stem in ("end", "path")}
    resumed = train(recipe, tmp_path / "broken", {**numbers, "steps": 4}, resume=True)
    assert_same_weights(straight, resumed)
    assert kept and all((tmp_path / "broken" / name).read_bytes() == bytes_ for name, bytes_ in kept.items())
    assert all((tmp_path / "straight" / name).read_bytes() == bytes_ for name, bytes_ in kept.items())


def test_what_makes_no_sense_is_refused(tmp_path: File) -> None:
    data = digits(tmp_path / "data")
    with pytest.raises(UsageError, match="no colours to take away"):
        train("cold", tmp_path / "a", {**SMALL, "data": data, "degradation": "decolour"})
    assert not (tmp_path / "a").exists()
    with pytest.raises(UsageError, match="found 0, 2 and 2000"):
        train("cold", tmp_path / "a", {**SMALL, "data": data, "levels": 0})
    with pytest.raises(UsageError, match="found 0.2, 0.1"):
        train("soft", tmp_path / "b", {**SMALL, "data": data, "least": 0.2})
