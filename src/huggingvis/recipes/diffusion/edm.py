"""Preconditioned diffusion: noise levels instead of times, and a network whose numbers have unit variance at each.

Karras, Aittala, Aila & Laine 2022, "Elucidating the Design Space of Diffusion-Based Generative Models" (arXiv
2206.00364): preconditioning and loss weight of Table 1, log-normal noise levels, Heun's method on their grid. The same
preconditioning on a table of noise levels is `--process linear`. Book: chapter 4.

    hvis train edm --run runs/edm --data mnist --net.channels 32,64,64 --net.blocks 1
    hvis generate 7 --model runs/edm --steps 18
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from huggingvis.core.protocols import Measure
from huggingvis.core.system import System
from huggingvis.recipes.denoiser_training import DenoiserTraining, PredictionName, ProcessName
from huggingvis.recipes.denoisers import Model, measure_denoiser
from huggingvis.recipes.picture_training import restored
from huggingvis.recipes.pixel_denoisers import bind_pixels, named, train_pixels
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts
from huggingvis.train.run import Run

SYSTEM = {
    "name": "EDM",
    "chapter": 4,
    "paper": "2206.00364",
    "files": ["core/preconditioning.py", "processes/ve.py", "samplers/heun.py", "samplers/churn.py"],
    "built": "tests/walks/test_diffusion_recipes.py::test_edm_learns_loads_and_draws",
    "exact": "tests/oracle/test_edm.py::test_input_and_target_have_unit_variance",
    "trained": None,
    "explained": None,
    "usable": None,
}


@dataclass(frozen=True)
class Config(DenoiserTraining):
    """Numbers of the training."""

    process: ProcessName = "edm"
    prediction: PredictionName = "edm"
    sample_steps: int = 18


def model(config: Config, facts: Facts) -> Model:
    """The model with fresh weights."""
    return named(config, facts)


def train(config: Config, setting: Setting) -> Run:
    """Train the U-Net in `setting`'s run folder."""
    return train_pixels("edm", config, setting, partial(model, config))


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained; prompts are class names, or empty."""
    return bind_pixels("edm", partial(model, config), run, device)


def measure(config: Config, run: Run, device: torch.device) -> Measure:
    """The loss of a run of this recipe."""
    trained = model(config, Facts.of(run))
    restored(trained.net, run, "net", device)
    return measure_denoiser(trained, lambda x: x)
