"""The three flows on tiny pictures: they learn, load again, draw, resume, and refuse what they cannot take."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from huggingvis.core import config as records
from huggingvis.core.catalog import find_recipe
from huggingvis.core.errors import UsageError
from huggingvis.core.noise import SeedNoise
from huggingvis.core.request import Canvas, Request
from huggingvis.edits.generate import generate
from huggingvis.nets.flows.glow import glow
from huggingvis.nets.flows.model import Flow
from huggingvis.objectives.likelihood import MaximumLikelihood
from huggingvis.recipes.flow import glow as glow_recipe
from huggingvis.recipes.flow_training import start_from_data
from huggingvis.recipes.loading import bind_run
from huggingvis.recipes.picture_training import begin, fit_pictures, open_pictures
from huggingvis.recipes.setting import Setting
from huggingvis.train.run import Run

NETS: dict[str, dict[str, Any]] = {
    "nice": {"couplings": 2, "width": 32, "depth": 1},
    "realnvp": {"levels": 2, "width": 8, "blocks": 0},
    "glow": {"levels": 2, "depth": 1, "width": 8},
}
SMALL = {"batch": 16, "lr": 3e-3, "warmup": 0, "ema": 0.8, "precision": "fp32"}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def digits(path: Path, count: int = 48, side: int = 8) -> str:
    """A part of 'MNIST' in the form a directory may hold: bright bars at four places."""
    path.mkdir(parents=True, exist_ok=True)
    images = np.full((count, side, side), 20, np.uint8)
    for i in range(count):
        images[i, :, 2 * (i % 4) : 2 * (i % 4) + 2] = 230
    np.savez(path / "mnist-part.npz", images=images, labels=np.arange(count, dtype=np.int64) % 4)
    return f"mnist:{path}"


def train(recipe: str, path: Path, data: str, resume: bool = False, **numbers: Any) -> Run:
    module = find_recipe(recipe)
    config = records.from_dict(module.Config, {**SMALL, "net": NETS[recipe], "data": data, **numbers})
    run: Run = module.train(config, Setting(path, resume=resume, progress=False))
    return run


@pytest.mark.parametrize("recipe", NETS)
def test_flow_learns_loads_and_draws(tmp_path: Path, recipe: str) -> None:
    run = train(recipe, tmp_path / "run", digits(tmp_path / "data"), steps=60, sample_every=20)
    bits = [record["validation.bits_per_dim"] for record in run.metrics() if "validation.bits_per_dim" in record]
    assert len(bits) == 3 and bits[2] < bits[0] - 0.05
    health = [record for record in run.metrics() if "validation._inverse_error" in record]
    assert all(record["validation._inverse_error"] < 1e-3 for record in health)
    assert sorted(p.name for p in run.samples.iterdir()) == [f"step-{n:08d}.png" for n in (20, 40, 60)]
    system = bind_run(run.path)
    first, again = (generate(system, Request(canvas=Canvas(count=2)))[0].pixels for _ in range(2))
    assert system.spec.family == recipe and first.shape == (8, 8, 1) and np.array_equal(first, again)
    with pytest.raises(UsageError, match="8 x 8 pixels and no other"):
        generate(system, Request(canvas=Canvas(width=16, height=16)))


def four(flow: Flow) -> Tensor:
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
        fit_pictures(
            config,
            setting,
            run,
            MaximumLikelihood(flow),
            source,
            draw=partial(four, flow),
        )
    return run


def test_flow_resumes_to_the_same_bits(tmp_path: Path) -> None:
    """Activation norm too: what it started from is in the checkpoint, and no flag beside it."""
    data = digits(tmp_path / "data")
    one, two = (resumed(tmp_path / str(parts), data, *parts).checkpoints()[-1] for parts in ((6,), (2, 6)))
    assert one.step == two.step and one.names() == two.names()
    for name in one.names():
        first, second = one.tensors(name), two.tensors(name)
        assert [key for key in first if not torch.equal(first[key], second[key])] == []


def test_sides_that_cannot_be_halved_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="multiples of 4, found 6 x 6"):
        train("realnvp", tmp_path / "run", digits(tmp_path / "data"), size=6, steps=1)
