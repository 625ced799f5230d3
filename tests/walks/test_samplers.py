"""Every sampler that has a name, and those that are called from Python, on a whole model: sentence in, picture out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from huggingvis.core.diffusion import Diffuses, Diffusion, compose
from huggingvis.core.noise import SeedNoise
from huggingvis.core.protocols import Cond
from huggingvis.core.request import Canvas, Prompt, Request
from huggingvis.core.system import System
from huggingvis.edits.generate import generate
from huggingvis.samplers.ddim import DDIM
from huggingvis.samplers.deq_ddim import JointDDIM
from huggingvis.samplers.grids import Uniform
from huggingvis.samplers.learned_steps import Coefficients, LearnedSteps
from huggingvis.samplers.names import SAMPLERS
from huggingvis.systems import tiny

PROMPT = Prompt("a fox to the left of a pizza")


@pytest.fixture(scope="module")
def system(tiny_model: Path) -> System:
    return tiny.bind(tiny_model)


def drawing(system: System, steps: int) -> tuple[Diffusion, Cond]:
    """The model for DDIM with `steps` even steps, guided as usual, and the condition of one picture."""
    request = Request(PROMPT, sampling=replace(system.defaults, sampler="ddim", schedule="uniform", steps=steps))
    model = system.generator(request)
    assert isinstance(model, Diffuses)
    return model.diffusion, system.conditioner.prepare(system.conditioner([request]))


def test_every_named_sampler_draws(system: System) -> None:
    """Two pictures each, of two seeds; what draws noise makes others than what does not."""
    seen: set[bytes] = set()
    for row in SAMPLERS:
        asked = Request(PROMPT, Canvas(count=2), replace(system.defaults, sampler=row.name, steps=3))
        one, other = (picture.pixels for picture in generate(system, asked))
        assert one.shape == (32, 32, 3) and len(np.unique(one)) > 20, row.name
        assert not np.array_equal(one, other), row.name
        seen.add(one.tobytes())
    assert len(seen) > len(SAMPLERS) / 2  # where steps are few and even, several methods are one


@torch.no_grad()
def test_a_whole_chain_at_once_is_ddim(system: System) -> None:
    model, cond = drawing(system, 12)
    want = model.sample(1, cond, noise=SeedNoise([7]))
    grid = model.grid(model.process)
    x = model.start(1, grid, SeedNoise([7]))
    got, calls = JointDDIM(1e-5)(compose(model.denoise, model.guidance), model.process, x, grid, cond)
    assert calls <= 12 + 1
    assert float((got - want).abs().max()) < 1e-3 * float(want.abs().max())


def test_learned_steps_come_nearer_to_a_long_chain(system: System) -> None:
    """Two steps, fitted to where 24 of DDIM's end, are nearer to it; what that is worth on other noise is for a
    trained network to say (tests/oracle/test_learned_steps.py)."""
    long, cond = drawing(system, 24)
    cond = {key: value.expand(2, *value.shape[1:]) for key, value in cond.items()}
    numbers = Coefficients(long.process, Uniform(2)(long.process))
    few = replace(long, grid=Uniform(2))

    def made(model: Diffusion) -> torch.Tensor:
        return model.sample(2, cond, noise=SeedNoise([1, 2]))

    learned = replace(few, sampler=LearnedSteps(numbers))
    with torch.no_grad():
        goal, before = made(long), made(learned)
        assert torch.allclose(before, made(replace(few, sampler=DDIM())), atol=1e-5)
    optimizer = torch.optim.LBFGS(numbers.parameters(), max_iter=30, line_search_fn="strong_wolfe")

    def off() -> float:
        optimizer.zero_grad()
        error = (made(learned) - goal).square().mean()
        error.backward()
        return float(error.detach())

    optimizer.step(off)
    with torch.no_grad():
        after = made(learned)
    assert float((after - goal).square().mean()) < 0.7 * float((before - goal).square().mean())
