"""What contenders of `families.py` are given, and what they leave: the same pictures, the same numbers, a score.

Real digits where HUGGINGVIS_TESTDATA names them, drawn ones otherwise. They are put into one file that both sides read,
so that pictures are the same to the bit; every sixth is held out.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from huggingvis.data.standard import MNIST
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Source, View, open_source
from huggingvis.train.parallel import Parallel
from huggingvis.train.run import Run

START = 50
"""Steps at the beginning of a training that are not timed; the interval of our log as well."""


@dataclass(frozen=True)
class Task:
    """Pictures in `folder`, and the numbers that are the same for all.

    Attributes:
        folder: holds one .npz of digits; runs go there too.
        batch: pictures a step.
        lr: learning rate.
        seed: of weights and draws.
    """

    folder: Path
    batch: int
    lr: float
    seed: int

    @property
    def data(self) -> str:
        """The pictures as recipes name them."""
        return f"mnist:{self.folder}"

    def source(self) -> Source:
        """The pictures as recipes open them."""
        return open_source(self.data, View(), seed=self.seed)

    def unit(self) -> Tensor:
        """All training pictures in [0, 1], [N, 1, 28, 28], as peers take them."""
        training = self.source().training
        every = np.arange(len(training))
        x = training.images(every, np.zeros(len(every), dtype=bool)).contiguous()
        return (127.5 * (x + 1)).round() / 255  # exactly 1 where a pixel is white: pythae insists

    def setting(self, name: str) -> Setting:
        """Where a recipe runs."""
        return Setting(self.folder / name, parallel=Parallel(), progress=False)


@dataclass(frozen=True)
class Trained:
    """What a training left.

    Attributes:
        rate: training pictures a second, after the first `START` steps.
        net: what was learnt.
        score: held-out pictures [B, 1, 28, 28] in [-1, 1] -> a number for each, [B]; less is better.
    """

    rate: float
    net: nn.Module
    score: Callable[[Tensor], Tensor]

    @property
    def parameters(self) -> int:
        """Numbers learnt."""
        return sum(p.numel() for p in self.net.parameters())


Contender = Callable[[Task, int], Trained]
"""Trains fresh weights for so many steps."""


@dataclass
class Clock:
    """Times of steps: `tick` after each."""

    times: list[float] = field(default_factory=list)

    def tick(self) -> None:
        self.times.append(time.perf_counter())

    def rate(self, batch: int) -> float:
        """Pictures a second, after the first `START` steps."""
        return batch * (len(self.times) - START) / (self.times[-1] - self.times[START - 1])


def logged_rate(run: Run, batch: int) -> float:
    """`Clock.rate` of a training by `fit`, as it logged itself."""
    lines = [line for line in run.metrics() if "seconds" in line]
    first, last = lines[0], lines[-1]
    return float(batch * (last["step"] - first["step"]) / (last["seconds"] - first["seconds"]))


def keep_digits(folder: Path, seed: int, binary: bool) -> str:
    """Writes the digits into `folder`, drawn once as black or white if `binary`; says where they are from."""
    root = os.environ.get("HUGGINGVIS_TESTDATA")
    rng = np.random.default_rng(seed)
    if root:
        found = MNIST.load(Path(root) / "images" / "mnist")
        images, labels, told = found.images[..., 0], found.labels, "digits of MNIST's training set"
    else:
        images, labels = _strokes(rng, 6000)
        told = "drawn strokes in place of MNIST, for HUGGINGVIS_TESTDATA is not set"
    if binary:
        images = np.where(rng.random(images.shape) < images / 255, 255, 0).astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "mnist-part.npz", images=images, labels=np.asarray(labels, dtype=np.int64))
    return f"{len(images):,} {told}, every sixth held out"


def _strokes(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Grey bars at ten angles on black: uint8 [N, 28, 28], and which angle."""
    y, x = np.mgrid[-1:1:28j, -1:1:28j]
    labels = rng.integers(0, 10, count)
    angle = labels * np.pi / 10 + rng.normal(0, 0.1, count)
    off = rng.normal(0, 0.2, count)
    distance = x * np.sin(angle)[:, None, None] - y * np.cos(angle)[:, None, None] - off[:, None, None]
    inside = (x**2 + y**2 < 0.6)[None]
    return np.clip(270 * np.exp(-((distance / 0.15) ** 2)) * inside, 0, 255).astype(np.uint8), labels


def seeded(task: Task) -> torch.Generator:
    """A generator, and fresh weights that are those of the task's seed."""
    torch.manual_seed(task.seed)
    return torch.Generator().manual_seed(task.seed)


def quiet() -> contextlib.ExitStack:
    """Inside it, the bars and messages of peers are not seen."""
    stack = contextlib.ExitStack()
    logging.disable(logging.INFO)
    stack.callback(logging.disable, logging.NOTSET)
    stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
    stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
    return stack
