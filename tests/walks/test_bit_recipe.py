"""Bit diffusion and self-conditioning on tiny pictures: they learn, load, draw, and are there for other recipes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import assert_same_weights, course, digits, drawn, train

from huggingvis.core.diffusion import Diffusion
from huggingvis.core.errors import UsageError
from huggingvis.core.request import Request
from huggingvis.recipes.loading import bind_run, measure_of
from huggingvis.samplers.asymmetric import Asymmetric
from huggingvis.samplers.ddim import DDIM
from huggingvis.train.run import Run

UNET = {"channels": [16, 16], "blocks": 1, "attention": [0, 0], "middle": 0, "heads": 2, "self_conditioned": True}
SMALL = {"samples": 4, "sample_steps": 2, "sample_every": 10, "warmup": 0, "batch": 8, "net": UNET, "size": 8,
         "lr": 3e-3, "ema": 0.9}  # fmt: skip


@pytest.mark.parametrize("told", [True, False])
def test_bit_diffusion_learns_loads_and_draws(tmp_path: Path, told: bool) -> None:
    numbers = {**SMALL, "data": digits(tmp_path / "data"), "levels": 4, "code": "gray", "steps": 40, "td": 0.5}
    run = train("bit", tmp_path / "run", {**numbers, "net": {**UNET, "self_conditioned": told}})
    losses = course(run, "validation.mse")
    assert losses[-1] < losses[0] < 0.6  # bits of size 1: a net that says nothing loses 1
    system = bind_run(run.path)
    model = system.generator(Request(sampling=system.defaults))
    assert isinstance(model, Diffusion) and model.sampler == Asymmetric(DDIM(), 0.5)
    pictures = drawn(system, "1")
    assert pictures.shape == (2, 8, 8, 1) and np.array_equal(pictures, drawn(system, "1"))
    assert set(np.unique(pictures)) <= {0, 85, 170, 255}
    picture = torch.zeros(2, 1, 8, 8)
    batch = {"image": picture, "label": torch.zeros(2, dtype=torch.int64)}
    assert measure_of(Run.open(run.path), torch.device("cpu")).each(batch, 2, 0)["mse"].shape == (2,)


def test_every_recipe_may_be_self_conditioned(tmp_path: Path) -> None:
    data = digits(tmp_path / "data")
    run = train("ddpm", tmp_path / "ddpm", {**SMALL, "data": data, "steps": 20})
    assert course(run, "validation.mse")[-1] < course(run, "validation.mse")[0]
    system = bind_run(run.path)
    assert drawn(system, "0").shape == (2, 8, 8, 1) and system.parts["net"].config.concat_channels == 1
    found = train("improved_ddpm", tmp_path / "improved", {**SMALL, "data": data, "steps": 10, "conditional": False})
    assert drawn(bind_run(found.path)).shape == (2, 8, 8, 1)


def test_a_self_conditioned_training_goes_on_bit_for_bit(tmp_path: Path) -> None:
    numbers = {**SMALL, "data": digits(tmp_path / "data"), "sample_every": 0, "levels": 4}
    straight = train("bit", tmp_path / "straight", {**numbers, "steps": 4})
    train("bit", tmp_path / "broken", {**numbers, "steps": 2})
    assert_same_weights(straight, train("bit", tmp_path / "broken", {**numbers, "steps": 4}, resume=True))


def test_impossible_numbers_are_refused(tmp_path: Path) -> None:
    data = digits(tmp_path / "data")
    with pytest.raises(UsageError, match="td = 0 or more, found -1"):
        train("bit", tmp_path / "run", {**SMALL, "data": data, "td": -1.0})
    with pytest.raises(UsageError, match="Analog bits write 2 to"):
        train("bit", tmp_path / "run", {**SMALL, "data": data, "levels": 1})
