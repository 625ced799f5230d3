"""Adversarial nets that grow from 4 pixels to the full size, one resolution after another.

Karras, Aila, Laine & Lehtinen 2017, "Progressive Growing of GANs for Improved Quality, Stability, and Variation" (arXiv
1710.10196): growing and fading (Sec. 2), minibatch deviation (Sec. 3), equalised learning rate and pixel norm (Sec. 4),
WGAN-GP with drift, Adam with beta1 0 and averaged weights (App. A.1). A side of 4 to 7 times a power of 2 can grow: 28,
32, 64. How far a run has grown follows from its steps. Book: chapter 2.

    hvis train pggan --run runs/pggan --data mnist
    hvis generate --model runs/pggan
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from torch import Tensor

from huggingvis.core.errors import FileProblem
from huggingvis.core.protocols import OnStep
from huggingvis.core.system import System
from huggingvis.nets.pggan import ProgressiveCritic, ProgressiveGenerator, stages_of
from huggingvis.objectives.adversarial import (
    R1,
    GradientPenalty,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    Wasserstein,
)
from huggingvis.objectives.progressive import Growing, ProgressiveGAN, ProgressiveTraining
from huggingvis.recipes.adversarial_training import AdversarialTraining, fit_adversarial, preview_noise
from huggingvis.recipes.picture_training import begin, open_pictures, picture_system, restored
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts
from huggingvis.train.run import Run

SYSTEM = {
    "name": "PGGAN",
    "chapter": 2,
    "paper": "1710.10196",
    "files": [
        "objectives/progressive.py",
        "objectives/adversarial.py",
        "nets/pggan.py",
        "nets/equalised.py",
        "metrics/sliced_wasserstein.py",
    ],
    "built": "tests/walks/test_adversarial.py::test_pggan_grows_loads_and_draws",
    "exact": "tests/oracle/test_pggan.py::test_fading_begins_at_the_coarse_picture_and_ends_at_the_fine_one",
    "trained": "benchmarks/trained/pggan.json",
    "explained": None,
    "usable": None,
}


@dataclass(frozen=True)
class Config(AdversarialTraining):
    """Numbers of the training.

    Attributes:
        width: channels at the full size, doubled at each coarser resolution.
        most: channels at most.
        fade: images over which a resolution fades in (800,000 in the paper).
        settle: images from there to the next resolution (800,000 in the paper); with 0, and 0 to fade, nothing grows.
    """

    steps: int = 40_000
    batch: int = 32
    lr: float = 1e-3
    latent_dim: int = 128
    game: NonSaturating | Minimax | LeastSquares | Hinge | Wasserstein = Wasserstein(drift=1e-3)
    penalty: GradientPenalty | R1 | None = GradientPenalty()
    betas: tuple[float, float] = (0.0, 0.99)
    width: int = 32
    most: int = 128
    fade: int = 100_000
    settle: int = 100_000


def widths(config: Config, stages: int) -> tuple[int, ...]:
    """Channels of each resolution, coarsest first."""
    return tuple(min(config.width * 2**i, config.most) for i in reversed(range(stages)))


def generator(config: Config, facts: Facts) -> tuple[ProgressiveGenerator, Growing]:
    """The generator with fresh weights, and how it grows. Raises `UsageError` for sizes that cannot be grown to."""
    stages = stages_of(facts.size)
    shape = facts.shape
    net = ProgressiveGenerator(shape, widths(config, stages), config.latent_dim)
    return net, Growing(stages, config.batch, config.fade, config.settle)


def train(config: Config, setting: Setting) -> Run:
    """Train both nets in `setting`'s run folder."""
    source = open_pictures(config)
    facts = source.facts
    shape = facts.shape
    net, growing = generator(config, facts)
    critic = ProgressiveCritic(shape, widths(config, growing.stages))
    objective = ProgressiveTraining(net, critic, config.latent_dim, growing, config.rules())
    if config.steps <= growing.last:
        print(
            f"{config.steps} steps end before the pictures have grown to {facts.size} pixels, which takes "
            f"{growing.last + 1}. Ask for more --steps, or for fewer images to --fade and --settle.",
            file=sys.stderr,
        )
    run = begin(setting, "pggan", config, source)

    def draw(on_step: OnStep) -> Tensor:
        return objective.newest(shape[1:]).sample(64, {}, noise=preview_noise())

    return fit_adversarial(config, setting, run, objective, source, draw)


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained, as far as it has grown."""
    facts = Facts.of(run)
    net, growing = generator(config, facts)
    restored(net, run, "generator", device)
    last = run.latest()
    if last is None:
        raise FileProblem(f"{run.path} has no checkpoint yet. Train it first, or wait for its first checkpoint.")
    gan = ProgressiveGAN(net, config.latent_dim, growing.at(last.step - 1), (facts.size, facts.size))
    return picture_system(gan, {"generator": net}, run, "pggan", device)
