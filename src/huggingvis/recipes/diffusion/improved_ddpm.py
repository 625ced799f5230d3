"""Improved DDPM: the network also learns the variance of the reverse process, so that few and long steps are enough.

Nichol & Dhariwal 2021, "Improved Denoising Diffusion Probabilistic Models" (arXiv 2102.09672): the cosine table, the
hybrid loss (eq. 16), or the bound alone with times drawn by their loss (eq. 18), and strided sampling. Its bits per
dimension are what `hvis evaluate` measures. Book: chapter 4.

    hvis train improved_ddpm --run runs/improved --data mnist --net.channels 32,64,64 --net.blocks 1
    hvis train improved_ddpm --run runs/bound --data mnist --loss bound --by_loss
    hvis generate 7 --model runs/improved --steps 50
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch

from huggingvis.core.errors import UsageError
from huggingvis.core.learned_variance import LearnedVariance
from huggingvis.core.protocols import Measure
from huggingvis.core.request import Sampling
from huggingvis.core.system import System
from huggingvis.objectives.denoise import Knots
from huggingvis.objectives.hybrid import Hybrid
from huggingvis.objectives.loss_aware import LossAware
from huggingvis.recipes.denoiser_training import NOISINGS, PREDICTING, ProcessName, WeightedTraining
from huggingvis.recipes.denoisers import PIXEL_SPREAD, Model, check_side, classes_of
from huggingvis.recipes.pixel_diffusion import bind_pixels, measure_pixels, train_pixels
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts
from huggingvis.train.run import Run

T = Knots().T
TABLES = ("linear", "cosine")

SYSTEM = {
    "name": "Improved DDPM",
    "chapter": 4,
    "paper": "2102.09672",
    "files": [
        "core/learned_variance.py",
        "objectives/hybrid.py",
        "objectives/loss_aware.py",
        "samplers/variances.py",
    ],
    "built": "tests/walks/test_diffusion_recipes.py::test_improved_ddpm_learns_loads_and_draws",
    "exact": "tests/oracle/test_learned_variance.py::test_the_bound_is_the_divergence_of_the_two_steps",
    "trained": "benchmarks/trained/improved_cosine.json",
    "explained": None,
    "usable": None,
}


@dataclass(frozen=True)
class Config(WeightedTraining):
    """Numbers of the training.

    Attributes:
        loss: hybrid, or bound for the variational bound alone.
        bound: share of the bound in the hybrid loss.
        by_loss: draw times where the loss is large; with the bound alone it is less noisy for it.
    """

    process: ProcessName = "cosine"
    loss: Literal["hybrid", "bound"] = "hybrid"
    bound: float = 1e-3
    by_loss: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.process not in TABLES:
            raise UsageError(
                f"The variational bound is a sum over the steps of a noise table, and the process {self.process} has "
                f"none. Use {' or '.join(TABLES)}."
            )
        if self.prediction == "edm":
            raise UsageError("A learned variance goes with the predictions eps, x0, v and velocity, found edm.")
        if self.loss == "bound" and self.weighting != "plain":
            raise UsageError(
                f"The variational bound itself says what each noise level counts, so the weighting {self.weighting} "
                "has nothing to weigh. Use it with the loss hybrid, whose plain part it weighs, or leave it plain."
            )


def model(config: Config, facts: Facts) -> Model:
    """The model with fresh weights."""
    check_side(facts.size, config.net.multiple)
    table = NOISINGS[config.process]
    noising = replace(
        table,
        times=LossAware(T) if config.by_loss else Knots(T),
        usual=Sampling(sampler="ddpm", schedule="trailing", steps=50),
    )
    prediction = LearnedVariance(PREDICTING[config.prediction].make(PIXEL_SPREAD))
    classes = classes_of(config.conditional, facts)
    fresh = Model.of(config.net, noising, prediction, facts.shape, classes=classes, pixels=True)
    return replace(fresh, weighting=config.weighs)


def objective(config: Config, fresh: Model) -> Hybrid:
    """What is minimised."""
    if config.loss == "bound":
        return Hybrid(fresh.objective(), T, bound=1.0, mse=0.0, mean_too=True)
    return Hybrid(fresh.objective(), T, bound=config.bound)


def train(config: Config, setting: Setting) -> Run:
    """Train the U-Net in `setting`'s run folder."""
    return train_pixels("improved_ddpm", config, setting, model, partial(objective, config))


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained; prompts are class names, or empty."""
    return bind_pixels("improved_ddpm", config, run, device, make=model)


def measure(config: Config, run: Run, device: torch.device) -> Measure:
    """The loss of a run of this recipe and its variational bound."""
    return measure_pixels(config, run, device, model, ode=False)
