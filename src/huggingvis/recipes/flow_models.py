"""What the recipes of flow matching share: their times and samplers, and the paths that their models are compared by.

Book: chapter 4, "Flow matching".
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from huggingvis.core.noise import SeedNoise
from huggingvis.core.protocols import Batch, Measure
from huggingvis.core.request import Sampling
from huggingvis.metrics.straightness import walk
from huggingvis.objectives.denoise import UniformTimes
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.recipes.denoiser_likelihood import bound_of, measure_likelihood
from huggingvis.recipes.denoiser_training import NOISINGS, PREDICTING, DenoiserTraining, Noising
from huggingvis.recipes.denoisers import PIXEL_SPREAD, Model, check_side, classes_of
from huggingvis.recipes.picture_training import restored
from huggingvis.recipes.pixel_diffusion import model
from huggingvis.recipes.sources import Facts
from huggingvis.samplers.euler import Euler
from huggingvis.samplers.grids import Uniform
from huggingvis.train.run import Run

LEAST = 1e-5
WALK = 50
"""Euler steps in which paths are measured."""


def straight_noising(sigma_min: float = 0.0) -> Noising:
    """The straight way with times drawn evenly, as both papers train it."""
    usual = Sampling("heun-flow", "uniform", 25)
    process = partial(RectifiedFlow, sigma_min=sigma_min)
    return replace(NOISINGS["flow"], process=process, times=UniformTimes(LEAST), least=LEAST, usual=usual)


def flow_model(config: DenoiserTraining, facts: Facts, sigma_min: float = 0.0) -> Model:
    """The model with fresh weights: along the straight way, or that of another process."""
    if config.process != "flow":
        return model(config, facts)
    check_side(facts.size, config.net.multiple)
    prediction = PREDICTING[config.prediction].make(PIXEL_SPREAD)
    classes = classes_of(config.conditional, facts)
    return Model.of(config.net, straight_noising(sigma_min), prediction, facts.shape, classes=classes, pixels=True)


def measure_flow(trained: Model, run: Run, device: torch.device) -> Measure:
    """The likelihood of a run whose model is `trained`, and the paths on which its pictures come."""
    restored(trained.net, run, "net", device)
    likelihood, objective = measure_likelihood(trained, bound_of(trained), ode=True), trained.objective()

    def each(batch: Batch, draws: int, seed: int) -> dict[str, Tensor]:
        told = likelihood.each(batch, draws, seed)
        x = SeedNoise([seed + i for i in range(len(batch["image"]))]).draw(batch["image"])
        start = x * trained.process.sigma(torch.tensor(1.0, dtype=torch.float64)).to(x.dtype)
        grid = Uniform(WALK)(trained.process)
        paths = walk(trained.denoiser, trained.process, Euler(), start, grid, objective.condition(batch))
        return {**told, "straightness": paths.straightness, "transport": paths.transport}

    meaning = (
        f"{likelihood.meaning}. straightness: how far the paths from noise to pictures are from straight lines (S of "
        "Liu et al. 2022, 0 where one Euler step is exact); transport: the square of their length; both summed over a "
        "picture's numbers"
    )
    return Measure(each, meaning, likelihood.draws)
