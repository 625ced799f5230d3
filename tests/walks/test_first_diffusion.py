"""The recipes of Diffusion 2015 in miniature: they learn, load, draw, resume, and tell their bound beside the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Hvis
from small_runs import assert_same_weights, course, drawn

from huggingvis.core.catalog import find_recipe
from huggingvis.core.errors import UsageError
from huggingvis.core.request import Canvas, Prompt, Request, Sampling
from huggingvis.edits.generate import generate
from huggingvis.recipes.courses import TIMES
from huggingvis.recipes.loading import bind_run, evaluation_of
from huggingvis.recipes.setting import Setting
from huggingvis.train.run import Run

SMALL = {"width": 16, "depth": 2, "batch": 64, "validate_every": 20, "ema": 0.9, "lr": 1e-2}
CPU = torch.device("cpu")


def train(recipe: str, path: Path, resume: bool = False, **numbers: Any) -> Run:
    module = find_recipe(recipe)
    run: Run = module.train(module.Config(**{**SMALL, **numbers}), Setting(path, resume=resume, progress=False))
    return run


def test_the_heartbeat_learns_loads_and_draws(tmp_path: Path, hvis: Hvis) -> None:
    numbers: dict[str, Any] = {"T": 24, "length": 6, "period": 3}
    run = train("diffusion_2015_binomial", tmp_path / "run", steps=120, **numbers)
    losses = course(run, "validation.bits")
    assert losses[-1] < 0.9 * losses[0]
    said = hvis(["evaluate", run.path, "--json"]).document
    rows = {name: row["mean"] for name, row in said["bits_per_word"].items()}
    assert rows["truth"] == pytest.approx(np.log2(3)) and rows["truth"] < rows["best chain"] < rows["bound"]
    assert rows["bound"] < rows["bound, last step fixed"] and rows["bound"] == pytest.approx(losses[-1], rel=0.1)
    assert said["held_out_losses"]["bits"] == losses[-1]
    system = bind_run(run.path)
    assert system.defaults.steps == 24
    pictures = drawn(system)
    assert pictures.shape[-1] == 3 and np.array_equal(pictures, drawn(system)) and pictures[0].std() > 0
    assert not np.array_equal(pictures[0], pictures[1])


def test_the_swiss_roll_learns_loads_and_draws(tmp_path: Path) -> None:
    run = train("diffusion_2015_gaussian", tmp_path / "run", steps=80, T=8, noise=0.3, first_beta=0.01)
    losses = course(run, "validation.bits")
    assert losses[-1] < losses[0] - 0.05
    found = evaluation_of(Run.open(run.path), CPU)
    assert found is not None and len(found.record["betas"]) == 8 and found.record["betas"][0] == 0.01
    rows = {name: row["mean"] for name, row in found.record["bits_per_point"].items()}
    assert rows["truth"] < rows["best chain"] < rows["bound"]
    schedule = run.weights("schedule")["logits"]
    fresh = find_recipe("diffusion_2015_gaussian").LearnedBetas(8, 0.01).logits
    assert float((schedule - fresh).detach().abs().max()) > 0.01  # it has learnt as well
    system = bind_run(run.path)
    pictures = drawn(system)
    assert np.array_equal(pictures, drawn(system)) and (system.defaults.sampler, system.defaults.steps) == ("ddpm", 8)
    asked = Request(
        canvas=Canvas(count=1), sampling=system.defaults.__class__(sampler="heun", schedule="karras", steps=5)
    )
    assert generate(system, asked)[0].pixels.shape == pictures[0].shape  # any sampler walks it


@pytest.mark.parametrize("recipe", ["diffusion_2015_binomial", "diffusion_2015_gaussian"])
def test_they_resume_where_they_were(tmp_path: Path, recipe: str) -> None:
    numbers: dict[str, Any] = {"T": 5, "validate_every": 0}
    straight = train(recipe, tmp_path / "straight", steps=4, **numbers)
    train(recipe, tmp_path / "broken", steps=4, **numbers)
    assert_same_weights(straight, train(recipe, tmp_path / "broken", resume=True, steps=4, **numbers))


def test_what_they_cannot_do_is_refused(tmp_path: Path, hvis: Hvis) -> None:
    run = train("diffusion_2015_binomial", tmp_path / "run", steps=2, T=4, length=6, period=3)
    system = bind_run(run.path)
    with pytest.raises(UsageError, match="Leave the prompt empty"):
        generate(system, Request(Prompt("a beat"), sampling=system.defaults))
    with pytest.raises(UsageError, match="and no other"):
        generate(system, Request(canvas=Canvas(width=64, height=64), sampling=system.defaults))
    with pytest.raises(UsageError, match="sampler"):
        generate(system, Request(sampling=Sampling(sampler="heun")))
    said = hvis(["evaluate", run.path, "--split", "test"])
    assert said.code != 0 and "tells no numbers on other pictures" in said.paragraph


def test_a_course_keeps_the_states_it_shows(tmp_path: Path) -> None:
    """Pictures of the same noise differ only by the model's row when the model has learnt more."""
    runs = [train("diffusion_2015_binomial", tmp_path / str(n), steps=n, T=10, length=6, period=3) for n in (1, 60)]
    first, more = (drawn(bind_run(run.path))[0] for run in runs)
    half = first.shape[0] // 2
    assert first.shape == more.shape and len(TIMES) == 5
    assert np.array_equal(first[:half], more[:half]) and not np.array_equal(first[half:], more[half:])
