"""Denoising diffusion in pixel space, on any small picture source, with or without classes.

Ho, Jain & Abbeel 2020, "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239): the linear table, eps
predictions and the unweighted loss, eq. 14. Also the cosine table (Nichol & Dhariwal 2021, arXiv 2102.09672), v
predictions (Salimans & Ho 2022, arXiv 2202.00512) and rectified flow, by name. Book: chapter 4.

    hvis train ddpm --run runs/digits --data mnist --net.channels 32,64,64 --net.blocks 1
    hvis generate 7 --model runs/digits
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from huggingvis.core.protocols import Measure
from huggingvis.core.system import System
from huggingvis.recipes.denoiser_training import DenoiserTraining
from huggingvis.recipes.denoisers import Model, measure_denoiser
from huggingvis.recipes.picture_training import restored
from huggingvis.recipes.pixel_denoisers import bind_pixels, named, train_pixels
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts
from huggingvis.train.run import Run

SYSTEM = {
    "name": "DDPM",
    "chapter": 4,
    "paper": "2006.11239",
    "files": ["objectives/denoise.py", "processes/table.py", "samplers/ancestral.py", "nets/unet.py"],
    "built": "tests/walks/test_recipes.py::test_ddpm_learns_loads_and_draws",
    "exact": "tests/oracle/test_solvers.py::test_ancestral_step_is_bayes",
    "trained": "benchmarks/trained/ddpm.json",
    "explained": None,
    "usable": None,
}


@dataclass(frozen=True)
class Config(DenoiserTraining):
    """Numbers of the training."""


def model(config: Config, facts: Facts) -> Model:
    """The model with fresh weights."""
    return named(config, facts)


def train(config: Config, setting: Setting) -> Run:
    """Train the U-Net in `setting`'s run folder."""
    return train_pixels("ddpm", config, setting, partial(model, config))


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained; prompts are class names, or empty."""
    return bind_pixels("ddpm", partial(model, config), run, device)


def measure(config: Config, run: Run, device: torch.device) -> Measure:
    """The loss of a run of this recipe."""
    trained = model(config, Facts.of(run))
    restored(trained.net, run, "net", device)
    return measure_denoiser(trained, lambda x: x)
