"""What the recipes of flow matching share: their times and samplers, and the paths that their models are compared by.

Book: chapter 4, "Flow matching".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.noise import SeedNoise
from huggingvis.core.protocols import Batch, Measure
from huggingvis.core.request import Sampling
from huggingvis.metrics.straightness import walk
from huggingvis.objectives.denoise import CosineTimes, LogitNormal, ModeTimes, TimeLaw, UniformTimes
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.recipes.denoiser_likelihood import bound_of, measure_likelihood
from huggingvis.recipes.denoiser_training import (
    NOISINGS,
    PREDICTING,
    Noising,
    PredictionName,
    ProcessName,
    WeightedTraining,
)
from huggingvis.recipes.denoisers import PIXEL_SPREAD, Model, check_side, classes_of
from huggingvis.recipes.picture_training import restored
from huggingvis.recipes.pixel_diffusion import weighted
from huggingvis.recipes.sources import Facts
from huggingvis.samplers.euler import Euler
from huggingvis.samplers.grids import Uniform
from huggingvis.train.run import Run

LEAST = 1e-5
TIMES: dict[str, TimeLaw] = {
    "uniform": UniformTimes(LEAST), "logit-normal": LogitNormal(), "mode": ModeTimes(), "cosmap": CosineTimes(),
}  # fmt: skip
TimesName = Literal["uniform", "logit-normal", "mode", "cosmap"]
WALK = 50
"""Euler steps in which paths are measured."""


@dataclass(frozen=True)
class StraightTraining(WeightedTraining):
    """Numbers of the training of a flow along straight ways.

    Attributes:
        times: how often a time is trained at: uniform, or most in the middle: logit-normal, mode or cosmap (Esser et
            al. 2024). A loss that is measured is over the same times.
    """

    process: ProcessName = "flow"
    prediction: PredictionName = "velocity"
    times: TimesName = "uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.times != "uniform" and self.process != "flow":
            raise UsageError(
                f"The times {self.times} are those of the process flow, and the process {self.process} has its own. "
                "Leave them uniform, or use the process flow."
            )


def straight_noising(sigma_min: float = 0.0, times: str = "uniform") -> Noising:
    """The straight way with times drawn evenly, as both papers train it, or otherwise."""
    usual = Sampling("heun-flow", "uniform", 25)
    process = partial(RectifiedFlow, sigma_min=sigma_min)
    return replace(NOISINGS["flow"], process=process, times=TIMES[times], least=LEAST, usual=usual)


def flow_model(config: StraightTraining, facts: Facts, sigma_min: float = 0.0) -> Model:
    """The model with fresh weights: along the straight way, or that of another process."""
    if config.process != "flow":
        return weighted(config, facts)
    check_side(facts.size, config.net.multiple)
    prediction = PREDICTING[config.prediction].make(PIXEL_SPREAD)
    classes = classes_of(config.conditional, facts)
    noising = straight_noising(sigma_min, config.times)
    fresh = Model.of(config.net, noising, prediction, facts.shape, classes=classes, pixels=True)
    return replace(fresh, weighting=config.weighs)


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
