"""Flow matching, rectified flow and reflow on tiny pictures: they learn, load, draw, resume, and refuse in words."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from small_runs import assert_same_weights, course, digits, drawn, train

from huggingvis.core.errors import UsageError
from huggingvis.core.noise import ReplayNoise
from huggingvis.core.request import Request
from huggingvis.data.cache import ArrayCache
from huggingvis.objectives.denoise import UniformTimes
from huggingvis.objectives.weights import WEIGHTINGS
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.recipes.diffusion import flow_matching, rectified_flow, reflow
from huggingvis.recipes.flow_models import TIMES, TimesName, flow_model
from huggingvis.recipes.flow_pairs import Pairs
from huggingvis.recipes.loading import bind_run, measure_of
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts
from huggingvis.train.run import Run

UNET = {"channels": [16], "blocks": 1, "attention": [0], "middle": 0, "heads": 1}
SMALL = {"samples": 4, "sample_steps": 2, "sample_every": 20, "warmup": 0, "batch": 8, "lr": 3e-3, "ema": 0.9}
FIRST = {**SMALL, "net": UNET, "size": 8, "steps": 40}
PAIRS = {**SMALL, "pairs": 32, "teacher_steps": 4, "steps": 20, "sample_every": 10}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A first stage with classes, that later stages learn from."""
    place = tmp_path_factory.mktemp("first")
    return train("rectified_flow", place / "run", {**FIRST, "data": digits(place / "data")})


def test_rectified_flow_learns_loads_and_draws(first: Run) -> None:
    losses = course(first, "validation.mse")
    assert losses[-1] < 0.95 * losses[0] and losses[-1] < 0.7  # a net that says nothing loses 1 + E x^2, 1.7 here
    system = bind_run(first.path)
    assert (system.spec.family, system.defaults.sampler, system.defaults.steps) == ("rectified_flow", "heun-flow", 25)
    pictures = drawn(system, "3")
    assert pictures.shape == (2, 8, 8, 1) and np.array_equal(pictures, drawn(system, "3"))


def test_a_flow_tells_its_likelihood_and_its_paths(first: Run) -> None:
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    told = measure_of(first, torch.device("cpu")).each({"image": x, "label": torch.full((3,), 1)}, 2, 0)
    assert set(told) >= {"mse", "bits_per_dim", "flow_bits_per_dim", "straightness", "transport"}
    assert all(value.shape == (3,) and bool(torch.isfinite(value).all()) for value in told.values())
    assert bool((told["straightness"] > 0).all())
    # from 64 normal numbers to pictures of about as many squares: between half and thrice 64
    assert 32 < float(told["transport"].mean()) < 192


@pytest.mark.parametrize(
    "more",
    [
        {"sigma_min": 0.1},
        {"optimal_pairs": True, "times": "logit-normal"},
        {"process": "vp", "conditional": False, "weighting": "eps"},
    ],
)
def test_flow_matching_learns_loads_and_draws(tmp_path: Path, more: dict[str, Any]) -> None:
    run = train("flow_matching", tmp_path / "run", {**FIRST, "data": digits(tmp_path / "data"), **more})
    losses = course(run, "validation.mse")
    assert losses[-1] < losses[0]
    system = bind_run(run.path)
    assert system.spec.family == "flow_matching" and drawn(system).shape == (2, 8, 8, 1)


def test_times_and_noise_levels_of_a_flow_count_as_asked() -> None:
    facts = Facts("none", 1, 8, 1)
    for name, law in TIMES.items():
        model = flow_model(flow_matching.Config(times=cast(TimesName, name), weighting="x0"), facts)
        assert model.times == law and model.weighting is WEIGHTINGS["x0"] and model.process == RectifiedFlow()
    assert flow_model(rectified_flow.Config(), facts).times == UniformTimes(1e-5)
    with pytest.raises(UsageError, match="the process vp has its own"):
        flow_matching.Config(process="vp", times="mode")


def test_optimal_pairs_are_easier_to_learn(tmp_path: Path) -> None:
    """Less is left of their velocities once x_t is known: by a quarter here, with the same net and pictures."""
    numbers = {**FIRST, "data": digits(tmp_path / "data"), "conditional": False, "batch": 24}
    plain = train("flow_matching", tmp_path / "plain", numbers)
    paired = train("flow_matching", tmp_path / "paired", {**numbers, "optimal_pairs": True})
    assert course(paired, "loss")[-1] < 0.85 * course(plain, "loss")[-1]


def test_reflow_learns_from_a_teachers_pairs_and_resumes(first: Run, tmp_path: Path) -> None:
    numbers = {**PAIRS, "teacher": str(first.path)}
    straight = train("reflow", tmp_path / "straight", numbers)
    losses = course(straight, "validation.mse")
    assert losses[-1] < course(first, "validation.mse")[-1]  # one velocity for each place, not a cloud of them
    kept = ArrayCache(straight.path / "pairs").entries()
    assert sorted(entry.recipe["count"] for entry in kept) == [2, 32]

    broken = tmp_path / "broken"
    train("reflow", broken, {**numbers, "steps": 7})
    shutil.rmtree(broken / "pairs" / kept[0].key)  # as if killed before it was written
    assert_same_weights(straight, train("reflow", broken, numbers, resume=True))

    system = bind_run(straight.path)
    assert system.spec.family == "reflow" and drawn(system, "1").shape == (2, 8, 8, 1)
    again = train("reflow", tmp_path / "again", {**PAIRS, "teacher": str(straight.path), "euler_steps": 1, "steps": 10})
    last = bind_run(again.path)
    assert (last.defaults.sampler, last.defaults.steps) == ("euler", 1)
    assert course(again, "validation.mse")[-1] < losses[0]
    assert last.spec.card["classes"] == system.spec.card["classes"]


def test_pairs_are_what_the_teacher_draws(first: Run, tmp_path: Path) -> None:
    config = reflow.Config(teacher=str(first.path), pairs=300, teacher_steps=3, guidance_scale=2.0, sampler="dpm++2m")
    teacher = reflow.taught(config, Facts.of(first), Setting(tmp_path / "run"))
    batch = Pairs(teacher, np.arange(300), Run.create(tmp_path / "run", {}), False).batch(0, 6)
    system = bind_run(first.path)
    asked = replace(system.defaults, sampler="dpm++2m", steps=3, guidance_scale=2.0)
    model = system.generator(Request(sampling=asked))
    vector = torch.nn.functional.one_hot(batch["label"].clamp(min=0), 10) * (batch["label"] >= 0)[:, None]
    cond = {"vector": vector.float(), "negative.vector": torch.zeros(6, 10)}

    same = model.sample(6, cond, noise=ReplayNoise([batch["eps"]]))
    assert float((same - batch["x0"]).abs().max()) < 1e-3  # kept in half precision
    every = Pairs(teacher, np.arange(300), Run.create(tmp_path / "other", {}), False).batch(0, 300)
    assert len(torch.unique(every["eps"], dim=0)) == 300
    shares = torch.bincount(every["label"] + 1, minlength=11) / 300
    assert float(shares[0]) == pytest.approx(0.1, abs=0.06) and float((shares[1:] - 0.09).abs().max()) < 0.07


def test_a_model_of_another_kind_teaches_a_flow(tmp_path: Path) -> None:
    """A VP model's eps are no velocities: the student starts afresh, with as large a net."""
    data = digits(tmp_path / "data")
    teacher = train("ddpm", tmp_path / "ddpm", {**FIRST, "data": data, "steps": 10})
    run = train("reflow", tmp_path / "run", {**PAIRS, "teacher": str(teacher.path), "conditional": False})
    assert run.config["config"]["net"]["channels"] == UNET["channels"]
    assert "classes" not in bind_run(run.path).spec.card or not bind_run(run.path).spec.card["classes"]
    first, then = (Run.open(path).weights("net", averaged=False) for path in (teacher.path, run.path))
    assert first["conv_in.weight"].shape == then["conv_in.weight"].shape


@pytest.mark.parametrize(
    ("recipe", "numbers", "said"),
    [
        ("flow_matching", {"process": "vp", "sigma_min": 0.1}, "belongs to the straight way"),
        ("flow_matching", {"prediction": "eps"}, "ends in noise alone"),
        ("reflow", {}, "name its run folder with --teacher"),
        ("reflow", {"sampler": "euler-a"}, "draws more on the way"),
        ("reflow", {"pairs": 0}, "at least one pair"),
    ],
)
def test_what_makes_no_sense_is_refused(
    first: Run, tmp_path: Path, recipe: str, numbers: dict[str, Any], said: str
) -> None:
    if "sampler" in numbers:
        numbers = {**numbers, "teacher": str(first.path)}
    if recipe == "flow_matching":
        numbers = {**numbers, "data": digits(tmp_path / "data")}
    with pytest.raises(UsageError, match=said):
        train(recipe, tmp_path / "run", numbers)
