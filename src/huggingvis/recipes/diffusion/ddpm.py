"""Denoising diffusion in pixel space, on any small picture source, with or without classes.

Ho, Jain & Abbeel 2020, "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239): the linear table, eps
predictions and the unweighted loss, eq. 14. Also the cosine table (Nichol & Dhariwal 2021, arXiv 2102.09672), v
predictions (Salimans & Ho 2022, arXiv 2202.00512), rectified flow and the SDEs of Song et al. 2020 (arXiv 2011.13456),
by name. Book: chapter 4.

    hvis train ddpm --run runs/digits --data mnist --net.channels 32,64,64 --net.blocks 1
    hvis generate 7 --model runs/digits
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from huggingvis.core.protocols import Measure
from huggingvis.core.system import System
from huggingvis.recipes.denoiser_training import DenoiserTraining
from huggingvis.recipes.pixel_diffusion import bind_pixels, measure_pixels, train_pixels
from huggingvis.recipes.setting import Setting
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


def train(config: Config, setting: Setting) -> Run:
    """Train the U-Net in `setting`'s run folder."""
    return train_pixels("ddpm", config, setting)


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained; prompts are class names, or empty."""
    return bind_pixels("ddpm", config, run, device)


def measure(config: Config, run: Run, device: torch.device) -> Measure:
    """The loss of a run of this recipe, its variational bound and its density."""
    return measure_pixels(config, run, device)
