"""Every sampler and every schedule by its name, on a run whose net was hardly trained; and guidance by classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_runs import digits, train

from huggingvis.core.request import Canvas, Prompt, Request
from huggingvis.core.system import System
from huggingvis.edits.generate import generate
from huggingvis.recipes.loading import bind_run
from huggingvis.samplers.names import sampler_names, schedule_names

STEPS = 10


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> System:
    place = tmp_path_factory.mktemp("run")
    net = {"channels": [16], "blocks": 1, "attention": [0], "middle": 0, "heads": 1}
    numbers = {"net": net, "size": 8, "steps": 60, "batch": 16, "lr": 3e-3, "warmup": 0, "ema": 0.9, "samples": 4}
    sheet = {"sample_steps": 2, "sample_every": 0}
    return bind_run(train("ddpm", place / "run", {**numbers, **sheet, "data": digits(place / "data")}).path)


def drawn(system: System, sampler: str, schedule: str, prompt: str = "1", scale: float = 1.0) -> np.ndarray:
    """float [N, H, W, 1] in [0, 255]."""
    sampling = replace(system.defaults, sampler=sampler, schedule=schedule, steps=STEPS, guidance_scale=scale)
    pictures = generate(system, Request(Prompt(prompt), Canvas(count=4), sampling))
    return np.stack([p.pixels for p in pictures]).astype(float)


def check(pictures: np.ndarray, again: np.ndarray) -> None:
    """Pictures that come again, differ from each other and are not nothing; ten steps are few for those with noise."""
    assert pictures.shape == (4, 8, 8, 1) and np.array_equal(pictures, again)
    assert np.abs(pictures[0] - pictures[1]).max() > 0
    assert 20 < pictures.mean() < 160 and pictures.std() > 10


@pytest.mark.parametrize("name", sampler_names())
def test_every_sampler_draws_from_a_run(system: System, name: str) -> None:
    check(drawn(system, name, "karras"), drawn(system, name, "karras"))


@pytest.mark.parametrize("name", schedule_names())
def test_every_schedule_draws_from_a_run(system: System, name: str) -> None:
    check(drawn(system, "ddim", name), drawn(system, "ddim", name))


def test_guidance_moves_towards_a_class_and_away_from_another(system: System) -> None:
    """Class 0 stands and class 1 lies: what guidance adds makes rows, or columns, more alike."""

    def lying(pictures: np.ndarray) -> float:
        """How much more rows differ from each other than columns do."""
        return float(pictures.mean(2).std(1).mean() - pictures.mean(1).std(1).mean())

    upright, plain, asked = (lying(drawn(system, "ddim", "karras", p, s)) for p, s in (("0", 4), ("", 1), ("1", 4)))
    assert upright < plain < asked
    without = drawn(system, "ddim", "karras", "1", 0.0)
    assert np.array_equal(without, drawn(system, "ddim", "karras", "", 1.0))
