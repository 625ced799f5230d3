"""Drawing one half of a pair when the other is given: inpainting, super-resolution, colouring; CDE, CDiffE and CMDE.

Batzolis, Stanczuk, Schonlieb & Etmann 2021 (arXiv 2111.13606) and 2022, "Non-Uniform Diffusion Models" (arXiv
2207.09786), Sec. 5. `--estimator clean`: CDE, the network is told the condition as it is. `--estimator noisy`: the
network learns pairs, and the condition becomes noise at `--speed`: 1 is CDiffE, less is CMDE, their own. Sheets show
what is given, the truth, and draws. Book: chapter 4.

    hvis train cmde --run runs/inpaint --data fashion_mnist --task inpaint --speed 0.3
    hvis explore complete shirt.png --model runs/inpaint --draws 8 -o completed.png
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.noise import SeedNoise
from huggingvis.core.protocols import Batch, Measure, OnStep
from huggingvis.core.system import System
from huggingvis.data.observations import Grey, Observation, Small, WithoutBox
from huggingvis.metrics.psnr import psnr
from huggingvis.recipes.denoiser_training import DenoiserTraining, ProcessName
from huggingvis.recipes.denoisers import Examples, Shell, check_side, system
from huggingvis.recipes.paired_models import Clean, Estimator, Noisy, PairModel
from huggingvis.recipes.picture_training import Sets, Updates, begin, fit_pictures, open_pictures, restored
from huggingvis.recipes.pixel_diffusion import PIXELS
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts, Pictures
from huggingvis.train.run import Run

SHOWN = 8
"""Pictures of a sheet."""

DRAWS = 3
"""Completions of each."""

MEANING = "mse: the training loss; psnr: of one completion of each picture, in dB, where it is not seen"


@dataclass(frozen=True)
class Config(DenoiserTraining):
    """Numbers of the training.

    Attributes:
        task: inpaint a square in the middle, enlarge a small picture, or colour a grey one.
        estimator: clean, the network is told the condition; or noisy, it learns pairs.
        speed: at which the condition becomes noise, where it does; the picture's is 1.
        hidden: side of the square, as a share of the picture's.
        factor: how many times smaller the small picture is.
    """

    process: ProcessName = "vp"
    task: Literal["inpaint", "enlarge", "colour"] = "inpaint"
    estimator: Literal["clean", "noisy"] = "noisy"
    speed: float = 0.3
    hidden: float = 0.5
    factor: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.conditional:
            raise UsageError("Models of pairs are told a picture and no class. Train without --conditional.")
        if not 0 < self.speed <= 1:
            raise UsageError(
                f"A condition becomes noise at a speed above 0 and at most 1, the picture's own; found {self.speed}. "
                "For a condition that stays as it is, ask for --estimator clean."
            )

    @property
    def observation(self) -> Observation:
        """What is given of a picture."""
        if self.task == "inpaint":
            return WithoutBox(self.hidden)
        return Small(self.factor) if self.task == "enlarge" else Grey()


def model(config: Config, facts: Facts) -> PairModel:
    """The model with fresh weights."""
    check_side(facts.size, config.net.multiple)
    if config.task == "colour" and facts.channels == 1:
        raise UsageError("Only colour pictures can be coloured; these are grey. Take others, or another --task.")
    estimator: Estimator = Clean() if config.estimator == "clean" else Noisy(config.speed)
    names = (config.process, config.prediction)
    return PairModel.fresh(config.net, names, facts.shape, config.observation, estimator)


def train(config: Config, setting: Setting) -> Run:
    """Train the U-Net in `setting`'s run folder."""
    source = open_pictures(config)
    fresh = model(config, source.facts)
    run = begin(setting, "cmde", config, source)
    truth = source.held_out.batch(0, min(SHOWN, len(source.held_out)))["image"].to(setting.device)

    sampling = replace(fresh.model.usual, steps=config.sample_steps)

    def draw(on_step: OnStep) -> Tensor:
        completer = fresh.completer(sampling)
        noises = [SeedNoise([k] * len(truth)) for k in range(DRAWS)]
        draws = [completer.complete(truth, noise=noise, on_step=on_step) for noise in noises]
        return torch.cat([fresh.observation(truth), truth, *draws])

    def examples(pictures: Pictures) -> Examples:
        def read(places: np.ndarray, mirrored: np.ndarray) -> Tensor:
            return fresh.data(pictures.images(places, mirrored))

        return Examples(pictures, read, conditional=False)

    return fit_pictures(
        config,
        setting,
        run,
        fresh.objective(),
        Sets(examples(source.training), examples(source.held_out)),
        draw=draw,
        updates=Updates(config.optim, config.averages),
    )


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained: it completes the pictures it is given, and draws none without."""
    facts = Facts.of(run)
    trained = model(config, facts)
    restored(trained.model.net, run, "net", device)
    found = system(trained.model, run.path.name, facts, Shell("cmde", PIXELS))
    return replace(found, generator=lambda request: trained.completer(request.sampling))


def measure(config: Config, run: Run, device: torch.device) -> Measure:
    """The loss of a run of this recipe, and what its completions look like beside the truth."""
    trained = model(config, Facts.of(run))
    restored(trained.model.net, run, "net", device)
    objective, completer = trained.objective(), trained.completer(trained.model.usual)

    def each(batch: Batch, draws: int, seed: int) -> dict[str, Tensor]:
        x = batch["image"]
        told = objective.measure({"x0": trained.data(x)}, draws, seed)
        with torch.no_grad():
            drawn = completer.complete(x, noise=SeedNoise([seed + i for i in range(len(x))]))
        return {**told, "psnr": psnr(drawn.clamp(-1, 1), x, data_range=2.0, mask=~completer.seen(x))}

    return Measure(each, MEANING, draws=10)
