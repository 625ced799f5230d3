"""What the walks through recipes share: tiny pictures in the forms a user may hold, short trainings, what they left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from huggingvis.core import config as records
from huggingvis.core.catalog import find_recipe
from huggingvis.core.request import Canvas, Prompt, Request
from huggingvis.core.system import System
from huggingvis.edits.generate import generate
from huggingvis.recipes.setting import Setting
from huggingvis.train.run import Run


def picture(label: int, number: int, side: int, colour: bool) -> np.ndarray:
    """A bright bar, upright for class 0 and lying for class 1, at one of four places. uint8 [side, side, 1 or 3]."""
    out = np.full((side, side, 3), 20, np.uint8)
    place = 1 + (number * 2) % (side - 3)
    bar = (slice(None), slice(place, place + 2)) if label == 0 else (slice(place, place + 2), slice(None))
    out[bar] = (240, 180, 60) if colour else 230
    return out if colour else out[:, :, :1]


def folder(path: Path, count: int = 24, side: int = 8, colour: bool = True) -> str:
    """A folder with the classes `lying` and `upright`, half of `count` pictures in each."""
    for i in range(count):
        place = path / ("upright", "lying")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = picture(i % 2, i // 2, side, colour)
        Image.fromarray(pixels if colour else pixels[:, :, 0]).save(place / f"{i:03d}.png")
    return f"folder:{path}"


def digits(path: Path, count: int = 48, side: int = 12) -> str:
    """A part of 'MNIST' in the form a directory may hold: grey, two of its ten classes."""
    path.mkdir(parents=True, exist_ok=True)
    images = np.stack([picture(i % 2, i // 2, side, colour=False) for i in range(count)])
    np.savez(path / "mnist-part.npz", images=images[..., 0], labels=np.arange(count, dtype=np.int64) % 2)
    return f"mnist:{path}"


def train(recipe: str, path: Path, numbers: Mapping[str, Any], resume: bool = False) -> Run:
    module = find_recipe(recipe)
    config = records.from_dict(module.Config, {"precision": "fp32", **numbers})
    run: Run = module.train(config, Setting(path, resume=resume, progress=False))
    return run


def trained_on_digits(place: Path, recipes: Mapping[str, Mapping[str, Any]]) -> Path:
    """`place` with a run of each recipe, with its numbers, on the same digits."""
    data = digits(place / "data")
    for recipe, numbers in recipes.items():
        train(recipe, place / recipe, {"data": data, **numbers})
    return place


def course(run: Run, key: str) -> list[float]:
    return [record[key] for record in run.metrics() if key in record]


def drawn(system: System, prompt: str = "", count: int = 2, seed: int = 3) -> np.ndarray:
    """uint8 [N, H, W, C]."""
    sampling = replace(system.defaults, steps=min(system.defaults.steps, 4), seed=seed)
    pictures = generate(system, Request(Prompt(prompt), Canvas(count=count), sampling))
    return np.stack([p.pixels for p in pictures])


def assert_same_weights(a: Run, b: Run) -> None:
    one, two = a.checkpoints()[-1], b.checkpoints()[-1]
    assert one.step == two.step and one.names() == two.names()
    for name in one.names():
        first, second = one.tensors(name), two.tensors(name)
        assert [key for key in first if not torch.equal(first[key], second[key])] == []
