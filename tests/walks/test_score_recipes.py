"""NCSN and score-SDE on tiny pictures: they learn, load again, draw by their own samplers, and tell likelihoods."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import course, digits, drawn, train

from huggingvis.core.media import Picture
from huggingvis.core.protocols import Density
from huggingvis.core.request import Request
from huggingvis.edits.explore.bits import Exploration
from huggingvis.recipes.loading import bind_run, measure_of
from huggingvis.train.run import Run

SMALL = {
    "net": {"channels": [16], "blocks": 1, "attention": [0], "middle": 0, "heads": 1},
    "samples": 4,
    "sample_steps": 2,
    "sample_every": 30,
    "warmup": 0,
    "batch": 8,
    "steps": 60,
    "lr": 3e-3,
}


@pytest.mark.parametrize(("recipe", "process"), [("ncsn", "ve"), ("score_sde", "vp"), ("score_sde", "sub-vp")])
def test_a_score_recipe_learns_loads_and_draws(tmp_path: Path, recipe: str, process: str) -> None:
    numbers = {**SMALL, "process": process, "data": digits(tmp_path / "data")}
    run = train(recipe, tmp_path / "run", numbers)
    errors = course(run, "validation.mse")
    assert errors[-1] < errors[0] < 1.5  # the noise itself has a mean square of 1
    system = bind_run(tmp_path / "run")
    assert system.spec.family == recipe
    assert system.defaults.sampler == {"ncsn": "annealed-langevin", "score_sde": "pc"}[recipe]
    pictures = drawn(system)
    assert pictures.shape == (2, 12, 12, 1) and np.array_equal(pictures, drawn(system))


def test_likelihood_of_a_run_is_explored_and_measured(tmp_path: Path) -> None:
    """One test-set definition: what `explore bits` tells of a density is what `evaluate` tells."""
    train("score_sde", tmp_path / "run", {**SMALL, "data": digits(tmp_path / "data", side=8), "steps": 10})
    system = bind_run(tmp_path / "run")
    assert isinstance(system.generator(Request()), Density)
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)).mul(255).round() / 127.5 - 1
    told = Exploration(draws=1)(system, [Picture.from_signal(one.numpy()) for one in x]).record
    batch = {"image": x, "label": torch.full((3,), -1)}
    found = measure_of(Run.open(tmp_path / "run"), torch.device("cpu")).each(batch, 4, 0)
    assert set(found) == {"mse", "bits_per_dim", "prior", "steps", "data", "flow_bits_per_dim"}
    assert found["flow_bits_per_dim"].tolist() == pytest.approx(told["told"], abs=1e-3)
    assert all(value.shape == (3,) and bool(torch.isfinite(value).all()) for value in found.values())
    parts = found["prior"] + found["steps"] + found["data"]
    assert found["bits_per_dim"].tolist() == pytest.approx(parts.tolist())
    assert math.isfinite(float(found["bits_per_dim"].mean())) and float(found["bits_per_dim"].min()) > 0
