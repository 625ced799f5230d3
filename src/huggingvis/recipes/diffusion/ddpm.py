"""Denoising diffusion in pixel space, on any small picture source, with or without classes.

Ho, Jain & Abbeel 2020, "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239): the linear table, eps
predictions and the unweighted loss, eq. 14. Also the cosine table (Nichol & Dhariwal 2021, arXiv 2102.09672), v
predictions (Salimans & Ho 2022, arXiv 2202.00512) and rectified flow, by name. Book: chapter 4.

    hvis train ddpm --run runs/digits --data mnist --net.channels 32,64,64 --net.blocks 1
    hvis generate 7 --model runs/digits
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from huggingvis.codecs.pixels import Pixels
from huggingvis.core.protocols import Measure
from huggingvis.core.system import System
from huggingvis.recipes.denoiser_training import DenoiserTraining
from huggingvis.recipes.denoisers import Examples, Model, Shell, check_side, classes_of, measure_denoiser, system
from huggingvis.recipes.picture_training import Sets, Updates, begin, fit_pictures, open_pictures, restored
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
    check_side(facts.size, config.net.multiple)
    shape = facts.shape
    names = (config.process, config.prediction)
    return Model.fresh(config.net, names, shape, classes=classes_of(config.conditional, facts), pixels=True)


def train(config: Config, setting: Setting) -> Run:
    """Train the U-Net in `setting`'s run folder."""
    source = open_pictures(config)
    fresh = model(config, source.facts)
    run = begin(setting, "ddpm", config, source)
    conditional = bool(fresh.classes)
    sets = Sets(
        Examples(source.training, source.training.images, conditional, config.empty),
        Examples(source.held_out, source.held_out.images, conditional),
    )
    return fit_pictures(
        config,
        setting,
        run,
        fresh.objective(),
        sets,
        draw=lambda: fresh.preview(config.samples, config.sample_steps),
        updates=Updates(config.optim, config.averages),
    )


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained; prompts are class names, or empty."""
    facts = Facts.of(run)
    trained = model(config, facts)
    restored(trained.net, run, "net", device)
    return system(trained, run.path.name, facts, Shell("ddpm", Pixels()))


def measure(config: Config, run: Run, device: torch.device) -> Measure:
    """The loss of a run of this recipe."""
    trained = model(config, Facts.of(run))
    restored(trained.net, run, "net", device)
    return measure_denoiser(trained, lambda x: x)
