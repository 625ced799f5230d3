"""The three flows on tiny pictures: they learn, load again, draw, resume, and refuse what they cannot take."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import assert_same_weights, course, digits, drawn, folder, train
from torch import Tensor

from huggingvis.core import config as records
from huggingvis.core.errors import UsageError
from huggingvis.core.noise import SeedNoise
from huggingvis.core.protocols import OnStep
from huggingvis.core.request import Canvas, Request
from huggingvis.edits.explore.classes import Exploration as EachClass
from huggingvis.edits.generate import generate
from huggingvis.nets.flows.glow import GlowConfig, glow
from huggingvis.nets.flows.model import Flow
from huggingvis.objectives.likelihood import MaximumLikelihood
from huggingvis.recipes.flow import glow as glow_recipe
from huggingvis.recipes.flow_training import OverflowWatch, start_from_data
from huggingvis.recipes.loading import bind_run
from huggingvis.recipes.picture_training import begin, fit_pictures, open_pictures
from huggingvis.recipes.setting import Setting
from huggingvis.train.callbacks import TrainStep
from huggingvis.train.run import Run

NETS: dict[str, dict[str, Any]] = {
    "nice": {"couplings": 2, "width": 32, "depth": 1},
    "realnvp": {"levels": 2, "width": 8, "blocks": 0},
    "glow": {"levels": 2, "depth": 1, "width": 8},
}
SMALL = {"batch": 16, "lr": 3e-3, "warmup": 0, "ema": 0.8, "precision": "fp32"}


@pytest.mark.parametrize("recipe", NETS)
def test_flow_learns_loads_and_draws(tmp_path: Path, recipe: str) -> None:
    data = digits(tmp_path / "data", side=8)
    numbers = {**SMALL, "net": NETS[recipe], "data": data, "steps": 60, "sample_every": 20}
    run = train(recipe, tmp_path / "run", numbers)
    bits = course(run, "validation.bits_per_dim")
    assert len(bits) == 3 and bits[2] < bits[0] - 0.05
    assert all(error < 1e-3 for error in course(run, "validation._inverse_error"))
    assert sorted(p.name for p in run.samples.iterdir()) == [f"step-{n:08d}.png" for n in (20, 40, 60)]
    system = bind_run(run.path)
    first = drawn(system)
    assert system.spec.family == recipe and first.shape == (2, 8, 8, 1) and np.array_equal(first, drawn(system))
    with pytest.raises(UsageError, match="8 x 8 pixels and no other"):
        generate(system, Request(canvas=Canvas(width=16, height=16)))


@pytest.mark.parametrize(
    ("recipe", "steps", "larger"), [("nice", 60, {}), ("realnvp", 60, {"width": 16, "blocks": 1}), ("glow", 120, {})]
)
def test_conditional_flow_draws_the_class_it_is_asked_for(
    tmp_path: Path, recipe: str, steps: int, larger: dict[str, int]
) -> None:
    """Upright bars light whole columns and lying ones whole rows: where the spread is tells which was drawn."""
    data = folder(tmp_path / "data", count=48, side=8, colour=False)
    numbers = {**SMALL, "net": {**NETS[recipe], **larger}, "data": data, "size": 8, "channels": 1, "conditional": True}
    run = train(recipe, tmp_path / "run", {**numbers, "lr": 1e-2, "steps": steps, "sample_every": steps,
                                           "temperature": 0.5})  # fmt: skip
    assert course(run, "validation._right")[-1] > 0.9 and len(course(run, "validation.class")) == 1
    system = bind_run(run.path)

    def uprightness(prompt: str) -> float:
        pictures = drawn(system, prompt, count=48)[..., 0].astype(float)
        return float((pictures.mean(1).std(-1) - pictures.mean(2).std(-1)).mean())

    assert uprightness("upright") > uprightness("lying") + 4
    assert np.array_equal(drawn(system, "upright"), drawn(system, "1")) and drawn(system).shape == (2, 8, 8, 1)
    tiles = EachClass(columns=2)(system, []).tiles
    assert tiles.row_labels == ("lying", "upright") and len(tiles.pictures) == 4
    with pytest.raises(UsageError, match="no classes to condition on"):
        train(recipe, tmp_path / "none", {**numbers, "data": f"folder:{tmp_path / 'data' / 'lying'}", "steps": 1})


def test_overflow_while_training_is_named_with_advice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run.create(tmp_path / "run", {})
    for temperature in (1.0, 50.0):
        flow = glow(GlowConfig(1, 1, 8), (1, 8, 8), temperature=temperature)
        with torch.no_grad():
            flow.get_parameter("body.steps.2.log_scale").fill_(-5.0)  # latents are stretched e^5 times on the way back
        for step in (500, 501):
            OverflowWatch(flow, 500)(TrainStep(step, 1000, {}, {}, MaximumLikelihood(flow), None, run))
    (record,) = run.metrics()
    assert record["step"] == 500 and record["trouble"].startswith("Overflow: 64 of 64 draws overflowed")
    said = capsys.readouterr().err
    assert said.startswith("step 500: Overflow: 64 of 64 draws") and "at temperature 50: latents that far out" in said
    assert "Lower the temperature (0.7 is usual)" in said and "an earlier checkpoint" in said


def four(flow: Flow, on_step: OnStep) -> Tensor:
    return flow.draw(4, SeedNoise(range(4)))[0]


def resumed(path: Path, data: str, *parts: int) -> Run:
    """Trained at a constant rate until each of `parts` steps, every time by fresh objects."""
    for number, steps in enumerate(parts):
        config = records.from_dict(glow_recipe.Config, {**SMALL, "net": NETS["glow"], "data": data, "steps": steps})
        setting = Setting(path, resume=number > 0, progress=False)
        source = open_pictures(config)
        flow = glow(config.net, source.facts.shape)
        run = begin(setting, "glow", config, source)
        start_from_data(flow, source, config, setting.device)
        fit_pictures(config, setting, run, MaximumLikelihood(flow), source, draw=partial(four, flow))
    return run


def test_flow_resumes_to_the_same_bits(tmp_path: Path) -> None:
    """Activation norm too: what it started from is in the checkpoint, and no flag beside it."""
    data = digits(tmp_path / "data", side=8)
    assert_same_weights(*(resumed(tmp_path / str(parts), data, *parts) for parts in ((6,), (2, 6))))


@pytest.mark.parametrize("recipe", NETS)
def test_training_in_bf16_ends_where_float32_does(tmp_path: Path, recipe: str) -> None:
    numbers = {**SMALL, "net": NETS[recipe], "data": digits(tmp_path / "data", side=8), "steps": 40, "sample_every": 20}
    runs = [train(recipe, tmp_path / name, {**numbers, "precision": name}) for name in ("fp32", "bf16")]
    wide, narrow = (course(run, "validation.bits_per_dim") for run in runs)
    assert narrow != wide and max(abs(a - b) for a, b in zip(wide, narrow, strict=True)) < 0.02
    assert all(error < 1e-3 for error in course(runs[1], "validation._inverse_error"))


def test_sides_that_cannot_be_halved_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="multiples of 4, found 6 x 6"):
        train("realnvp", tmp_path / "run", {"data": digits(tmp_path / "data", side=6), "steps": 1})
