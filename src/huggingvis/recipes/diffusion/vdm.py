"""Variational diffusion: the likelihood is what is trained, and the noise schedule is learnt with it.

Kingma, Salimans, Poole & Ho 2021, "Variational Diffusion Models" (arXiv 2107.00630): the bound in continuous time, or
in `depth` steps, as the loss; a monotone network for the schedule, whose shape lessens the variance of that loss;
Fourier features of the picture; a decoder of 8-bit values. Fixed schedules between the same ends are the processes
gamma-linear and gamma-cosine, and any other process trains by the bound between ends of its own. The paper's net has
one level, 32 blocks of 128 channels (`--net.channels 128 --net.blocks 32 --net.attention 0`). Book: chapter 4.

    hvis train vdm --run runs/vdm --data mnist --net.channels 32,64,64 --net.blocks 1
    hvis train vdm --run runs/cosine --data mnist --process gamma-cosine
    hvis evaluate runs/vdm --split test
    hvis generate --model runs/vdm
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch

from huggingvis.core.fourier_features import FourierFeatures
from huggingvis.core.protocols import Measure
from huggingvis.core.system import System
from huggingvis.objectives.denoise import UniformTimes
from huggingvis.objectives.variational_diffusion import VariationalDiffusion
from huggingvis.processes.gamma import GAMMA_0, GAMMA_1, check_ends
from huggingvis.processes.learned_gamma import LearnedGamma
from huggingvis.recipes.denoiser_likelihood import continuous_bound
from huggingvis.recipes.denoiser_training import (
    GAMMAS,
    NOISINGS,
    PREDICTING,
    DenoiserTraining,
    Noising,
    ProcessName,
    between,
    check_names,
)
from huggingvis.recipes.denoisers import PIXEL_SPREAD, Model, check_side, classes_of
from huggingvis.recipes.pixel_diffusion import bind_pixels, measure_pixels, train_pixels
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts
from huggingvis.train.optim import Optim
from huggingvis.train.run import Run

SYSTEM = {
    "name": "Variational diffusion",
    "chapter": 4,
    "paper": "2107.00630",
    "files": [
        "processes/gamma.py",
        "processes/learned_gamma.py",
        "objectives/variational_diffusion.py",
        "objectives/continuous_bound.py",
        "core/fourier_features.py",
    ],
    "built": "tests/walks/test_diffusion_recipes.py::test_vdm_learns_loads_draws_and_tells_its_bits",
    "exact": "tests/oracle/test_variational_diffusion.py::test_the_shape_of_gamma_leaves_the_loss_alone",
    "trained": "benchmarks/curves/schedules.json",
    "explained": None,
    "usable": None,
}


@dataclass(frozen=True)
class Config(DenoiserTraining):
    """Numbers of the training.

    Attributes:
        process: learned, or any of the fixed ones.
        gamma_0: minus the log-SNR of data, of the processes learned, gamma-linear and gamma-cosine.
        gamma_1: minus the log-SNR that pictures start from.
        learn_ends: learn these two as well.
        gamma_lr: learning rate of the schedule.
        gamma_every: steps between two of the schedule's shape.
        depth: steps of the model; none: continuous time.
        octaves: n of the Fourier features that the net is given, waves of 2^(1 - n) of a picture's range; none: no
            features. Those between the paper's two and the picture itself shorten short trainings.
    """

    conditional: bool | None = False
    process: ProcessName = "learned"
    gamma_0: float = GAMMA_0
    gamma_1: float = GAMMA_1
    learn_ends: bool = False
    gamma_lr: float = 1e-3
    gamma_every: int = 4
    depth: int | None = None
    octaves: tuple[int, ...] | None = (6, 7)
    sample_steps: int = 100

    def __post_init__(self) -> None:
        check_names("gamma-linear" if self.process == "learned" else self.process, self.prediction)
        check_ends(self.gamma_0, self.gamma_1)

    @property
    def noising(self) -> Noising:
        """The process, and the times at which its loss is measured."""
        if self.process == "learned":
            return between(partial(LearnedGamma, learn_ends=self.learn_ends), self.gamma_0, self.gamma_1)
        if self.process in GAMMAS:
            return between(GAMMAS[self.process], self.gamma_0, self.gamma_1)
        fixed = NOISINGS[self.process]
        return replace(fixed, times=UniformTimes(fixed.least))

    @property
    def optim(self) -> Optim | Mapping[str, Optim]:
        """AdamW with its warm-up, and for what is learnt of the schedule one of its own."""
        net, schedule = (Optim(lr=lr, warmup=self.warmup) for lr in (self.lr, self.gamma_lr))
        if self.process != "learned":
            return net
        return {"net": net, "gamma": schedule} | ({"ends": schedule} if self.learn_ends else {})


def model(config: Config, facts: Facts) -> Model:
    """The model with fresh weights."""
    check_side(facts.size, config.net.multiple)
    predicting, noising = PREDICTING[config.prediction], config.noising
    if predicting.clock_scale is not None:
        noising = replace(noising, clock_scale=predicting.clock_scale)
    prediction = predicting.make(PIXEL_SPREAD)
    if config.octaves:
        prediction = FourierFeatures(prediction, config.octaves)
    classes = classes_of(config.conditional, facts)
    return Model.of(config.net, noising, prediction, facts.shape, classes=classes, pixels=True)


def objective(config: Config, fresh: Model) -> VariationalDiffusion:
    """What is minimised."""
    return VariationalDiffusion(fresh.objective(), continuous_bound(fresh, config.depth), config.gamma_every)


def train(config: Config, setting: Setting) -> Run:
    """Train U-Net and schedule in `setting`'s run folder."""
    return train_pixels("vdm", config, setting, model, partial(objective, config))


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained; prompts are class names, or empty."""
    return bind_pixels("vdm", config, run, device, make=model)


def measure(config: Config, run: Run, device: torch.device) -> Measure:
    """The loss of a run of this recipe and its variational bound."""
    return measure_pixels(config, run, device, model, bound=partial(continuous_bound, depth=config.depth), ode=False)
