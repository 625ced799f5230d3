"""Soft diffusion: blur with a little noise, a loss that asks for no more than is there, and the momentum sampler.

Daras, Delbracio, Talebi, Dimakis & Milanfar 2022, "Soft Diffusion: Score Matching for General Corruptions" (arXiv
2209.05442): x_t = C_t x_0 + s_t eta, soft score matching of the residual x_0 - x_t (Eq. 12), levels of blur and noise
along the shortest path between the laws of pictures and of their end (found before the first step, kept as
`path.toml`), and the momentum sampler (Algorithm 2) or the naive one (Algorithm 1). Without blur (`--blur 0`) the same
is score matching on noise alone. Book: chapter 4, "Without noise".

    hvis train soft --run runs/soft --data mnist --net.channels 32,64,64 --net.blocks 1
    hvis generate --model runs/soft --steps 100
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from huggingvis.core import config as records
from huggingvis.core.errors import UsageError
from huggingvis.core.process import Residual
from huggingvis.core.protocols import Batch, Measure
from huggingvis.core.request import Sampling
from huggingvis.core.system import System
from huggingvis.objectives.denoise import UniformTimes
from huggingvis.objectives.restoration import SoftScore
from huggingvis.processes.blur import BlurNoise, Path
from huggingvis.processes.shortest_path import Moments, shortest_path
from huggingvis.recipes.degraded import DegradedTraining, bind_degraded, looked_at, train_degraded, trained, unet
from huggingvis.recipes.denoiser_training import Noising
from huggingvis.recipes.denoisers import Model
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts, Source
from huggingvis.train.run import Run

SYSTEM = {
    "name": "Soft diffusion",
    "chapter": 4,
    "paper": "2209.05442",
    "files": [
        "processes/blur.py",
        "processes/shortest_path.py",
        "processes/ends.py",
        "objectives/restoration.py",
        "samplers/momentum.py",
    ],
    "built": "tests/walks/test_cold_soft.py::test_soft_learns_loads_and_draws",
    "exact": "tests/oracle/test_soft.py::test_soft_score_matching_is_the_loss_of_noise_where_the_signal_is_a_number",
    "trained": "benchmarks/trained/soft.json",
    "explained": None,
    "usable": None,
}
PATH = "path.toml"
KNOTS = 400
WIDTHS, SIGMAS = 40, 24
SHARPEST = 0.01
"""The first blur of the search, as a share of the shorter side."""


@dataclass(frozen=True)
class Config(DegradedTraining):
    """Numbers of the training.

    Attributes:
        blur: last deviation of the blur, as a share of the pictures' shorter side; 0: noise alone.
        noise: last noise level.
        least: first noise level.
    """

    levels: int = 100
    blur: float = 0.5
    noise: float = 0.1
    least: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 < self.least < self.noise) or not (self.blur == 0 or self.blur > SHARPEST):
            raise UsageError(
                f"Noise rises from `least`, above 0, to `noise`, and the blur is 0 or above {SHARPEST}; found "
                f"{self.least:g}, {self.noise:g} and {self.blur:g}."
            )


def model(config: Config, facts: Facts, run: Run) -> Model:
    """The model with fresh weights."""
    path = records.load(Path, run.path / PATH)
    usual = Sampling("momentum", "uniform", config.levels)
    noising = Noising(lambda: BlurNoise(path), UniformTimes(1 / KNOTS), 1000.0, 1 / KNOTS, usual)
    return unet(config, facts, noising, Residual(), SoftScore())


def find_path(config: Config, source: Source, run: Run) -> None:
    """The path of blur and noise, found for training pictures and kept in the run folder, once."""
    if (run.path / PATH).exists():
        return
    widths = torch.zeros(1, dtype=torch.float64)
    if config.blur:
        rising = SHARPEST * (config.blur / SHARPEST) ** torch.linspace(0, 1, WIDTHS, dtype=torch.float64)
        widths = torch.cat([widths, rising])
    sigmas = config.least * (config.noise / config.least) ** torch.linspace(0, 1, SIGMAS, dtype=torch.float64)
    records.save(shortest_path(Moments.of(looked_at(config, source)), widths, sigmas, KNOTS), run.path / PATH)


def train(config: Config, setting: Setting) -> Run:
    """Train the U-Net in `setting`'s run folder."""
    return train_degraded("soft", config, setting, model, prepare=find_path)


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained; its prompt is empty."""
    return bind_degraded("soft", config, run, device, model)


def measure(config: Config, run: Run, device: torch.device) -> Measure:
    """The loss of a run of this recipe."""
    objective = trained(config, run, device, model).objective()

    def each(batch: Batch, draws: int, seed: int) -> dict[str, Tensor]:
        return objective.measure({"x0": batch["image"]}, draws, seed)

    return Measure(each, "soft: the loss, mean square of C_t (x_0-hat - x_0) over s_t^2, over times as in training", 10)
