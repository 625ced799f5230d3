"""Cold diffusion: no noise; a network restores blurred, masked or pixelated pictures, and steps make the most of it.

Bansal, Borgnia, Chu, Li, Kazemi, Huang, Goldblum, Geiping & Goldstein 2022, "Cold Diffusion: Inverting Arbitrary Image
Transforms Without Noise" (arXiv 2208.09392): the network is asked for the picture itself by its absolute error,
and Algorithm 2 (the sampler momentum) or Algorithm 1 (naive) goes from the degraded picture to a restored one;
`--sampler naive --steps 1` is the direct reconstruction. To draw from nothing, what the degradation leaves of the
training pictures is learnt as a Gaussian mixture (Sec. 5.2). Book: chapter 4, "Without noise".

    hvis train cold --run runs/cold --data mnist --net.channels 32,64,64 --net.blocks 1
    hvis evaluate runs/cold --split validation          RMSE, PSNR and SSIM of both algorithms and of the direct one
    hvis generate --model runs/cold
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.noise import BatchNoise
from huggingvis.core.process import X0, Degradation
from huggingvis.core.protocols import Batch, Measure
from huggingvis.core.request import Sampling
from huggingvis.core.sample import sample
from huggingvis.core.sampler import Sampler
from huggingvis.core.system import System
from huggingvis.guidance.threshold import Clip
from huggingvis.metrics.psnr import psnr
from huggingvis.metrics.ssim import WINDOW, ssim
from huggingvis.objectives.denoise import Knots
from huggingvis.objectives.restoration import Restored
from huggingvis.processes.blur import Blur
from huggingvis.processes.degradations import Decolour, Fade, Mask, Pixelate
from huggingvis.recipes.degraded import DegradedTraining, bind_degraded, train_degraded, trained, unet
from huggingvis.recipes.denoiser_training import Noising
from huggingvis.recipes.denoisers import Model
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts
from huggingvis.samplers.grids import Uniform
from huggingvis.samplers.momentum import Momentum, Naive
from huggingvis.train.run import Run

SYSTEM = {
    "name": "Cold diffusion",
    "chapter": 4,
    "paper": "2208.09392",
    "files": [
        "processes/blur.py",
        "processes/degradations.py",
        "processes/ends.py",
        "objectives/restoration.py",
        "samplers/momentum.py",
    ],
    "built": "tests/walks/test_cold_soft.py::test_cold_learns_loads_and_draws",
    "exact": "tests/oracle/test_cold.py::test_algorithm_2_is_exact_for_any_restorer_and_algorithm_1_is_not",
    "trained": "benchmarks/trained/cold_mask.json",
    "explained": None,
    "usable": None,
}
MEANING = (
    "of pictures degraded all the way (degraded) and restored by Algorithm 1, by Algorithm 2, and in one go (direct): "
    "rmse, on pixels from 0 to 1; psnr, in decibels; ssim. l1: the training loss, over times as in training"
)

DegradationName = Literal["blur", "mask", "pixelate", "fade", "decolour"]


@dataclass(frozen=True)
class Config(DegradedTraining):
    """Numbers of the training.

    Attributes:
        degradation: blur, mask (a hole that grows), pixelate, fade (to grey) or decolour.
        blur: last deviation of the blur, as a share of the pictures' shorter side.
    """

    degradation: DegradationName = "blur"
    blur: float = 0.5
    sample_steps: int = 20


DEGRADATIONS: dict[str, Callable[[Config], Degradation]] = {
    "blur": lambda config: Blur(config.blur),
    "mask": lambda config: Mask(),
    "pixelate": lambda config: Pixelate(),
    "fade": lambda config: Fade(),
    "decolour": lambda config: Decolour(),
}


def check_colours(config: Config, facts: Facts) -> None:
    """Raises `UsageError` where colours shall be taken from pictures without."""
    if config.degradation == "decolour" and facts.channels == 1:
        raise UsageError(
            "These pictures have no colours to take away. Choose another --degradation, or show them with --channels 3 "
            "if they had some."
        )


def model(config: Config, facts: Facts, run: Run) -> Model:
    """The model with fresh weights."""
    noising = Noising(
        lambda: DEGRADATIONS[config.degradation](config),
        Knots(config.levels),
        1000.0,
        1 / config.levels,
        Sampling("momentum", "uniform", config.levels),
    )
    return unet(config, facts, noising, X0(), Restored())


def train(config: Config, setting: Setting) -> Run:
    """Train the restorer in `setting`'s run folder."""
    return train_degraded("cold", config, setting, model, check=check_colours)


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained; its prompt is empty."""
    return bind_degraded("cold", config, run, device, model)


def measure(config: Config, run: Run, device: torch.device) -> Measure:
    """How well a run of this recipe restores, by each algorithm."""
    found = trained(config, run, device, model)
    ways: dict[str, tuple[Sampler, int]] = {
        "algorithm_1": (Naive(), config.levels),
        "algorithm_2": (Momentum(), config.levels),
        "direct": (Naive(), 1),
    }

    def each(batch: Batch, draws: int, seed: int) -> dict[str, Tensor]:
        x0 = batch["image"]
        degraded = found.process.signal(x0, torch.ones((), dtype=torch.float64))
        results = {name: restore(found, degraded, *way) for name, way in ways.items()}
        told = {f"{k}_{name}": v for name, x in results.items() for k, v in compared(x, x0).items()}
        floor = {f"{k}_degraded": v for k, v in compared(degraded, x0).items()}
        return {**floor, **told, **found.objective().measure({"x0": x0}, draws, seed)}

    return Measure(each, MEANING, draws=5)


def restore(model: Model, degraded: Tensor, sampler: Sampler, steps: int) -> Tensor:
    """Pictures from wholly degraded ones [B, C, H, W], in `steps`."""
    grid, denoise = Uniform(steps)(model.process), Clip()(model.denoiser)
    return sample(denoise, model.process, sampler, degraded, grid, {}, noise=BatchNoise(0))


def compared(x: Tensor, true: Tensor) -> dict[str, Tensor]:
    """rmse, psnr and, where the pictures are large enough for its window, ssim of each picture, [B]."""
    x = x.clamp(-1, 1)
    decibels = psnr(x, true, data_range=2.0)
    told = {"rmse": 10 ** (-decibels / 20), "psnr": decibels}
    return {**told, "ssim": ssim(x, true, data_range=2.0)} if min(x.shape[-2:]) >= WINDOW else told
