"""What the recipes of adversarial pairs share: the rules by name, both optimisers, the alarms.

Book: chapter 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from huggingvis.core.errors import UsageError
from huggingvis.core.noise import Noise, SeedNoise
from huggingvis.core.system import System
from huggingvis.objectives.adversarial import (
    R1,
    GradientPenalty,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    Wasserstein,
)
from huggingvis.objectives.gan import GAN, Contest, Prior, Rules, normal, uniform
from huggingvis.recipes.alarms import Alarm
from huggingvis.recipes.picture_training import PictureTraining, Updates, fit_pictures, picture_system, restored
from huggingvis.recipes.previews import Draw
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Source
from huggingvis.train.ema import ConstantDecay, Ema
from huggingvis.train.optim import Optim
from huggingvis.train.run import Run

PRIORS: dict[str, Prior] = {"normal": normal, "uniform": uniform}


@dataclass(frozen=True)
class AdversarialTraining(PictureTraining):
    """Numbers of an adversarial training.

    Attributes:
        latent_dim: numbers in z.
        game: what both minimise: NonSaturating, Minimax, LeastSquares, Hinge or Wasserstein.
        penalty: on the critic's slope: GradientPenalty (for Wasserstein) or R1; none: no penalty.
        penalty_every: take the penalty every that many steps, as much stronger.
        critic_steps: steps of the critic for one of the generator.
        critic_lr: learning rate of the critic; none: that of the generator.
        betas: of Adam, for both.
        ema: decay of the generator's averaged weights (Yazici et al. 2018, arXiv 1806.04498); 0: none.
    """

    batch: int = 64
    lr: float = 2e-4
    latent_dim: int = 100
    game: NonSaturating | Minimax | LeastSquares | Hinge | Wasserstein = NonSaturating()
    penalty: GradientPenalty | R1 | None = None
    penalty_every: int = 1
    critic_steps: int = 1
    critic_lr: float | None = None
    betas: tuple[float, float] = (0.5, 0.999)
    ema: float = 0.999

    def __post_init__(self) -> None:
        if isinstance(self.game, Wasserstein) and not isinstance(self.penalty, GradientPenalty):
            raise UsageError(
                "The Wasserstein game needs a critic whose slope is kept at 1, but no gradient penalty was asked for. "
                "Add --penalty GradientPenalty."
            )

    def rules(self) -> Rules:
        """What is played."""
        return Rules(self.game, self.penalty, self.penalty_every, self.critic_steps)


def alarms() -> list[Alarm]:
    """Of mode collapse, total and partial. They wait, for a young generator draws everything alike: on MNIST `_spread`
    passes 0.4 within 2000 steps, `_rank` 0.3 within 5000."""
    advice = (
        "Lower the learning rates, smooth the critic (--penalty R1), or take a larger batch; go back to an earlier "
        "checkpoint, for a collapsed generator seldom recovers."
    )
    return [
        Alarm("critic._spread", 0.3, "Mode collapse, all pictures become one", advice, after=2000),
        Alarm("critic._rank", 0.3, "Mode collapse, few kinds of pictures are left", advice, after=5000),
    ]


def fit_adversarial(
    config: AdversarialTraining,
    setting: Setting,
    run: Run,
    objective: Contest,
    source: Source,
    draw: Draw,
) -> Run:
    """`fit` with an optimiser for each player, unclipped, and the alarms."""
    generator = Optim(lr=config.lr, betas=config.betas, clip=None)
    critic = Optim(lr=config.lr if config.critic_lr is None else config.critic_lr, betas=config.betas, clip=None)
    ema = Ema(ConstantDecay(config.ema), nets=("generator",)) if config.ema else None
    updates = Updates({"generator": generator, "critic": critic}, ema)
    return fit_pictures(config, setting, run, objective, source, draw=draw, updates=updates, on_step=alarms())


def bind_gan(name: str, gan: GAN, run: Run, device: torch.device, classes: tuple[str, ...] = ()) -> System:
    """The generator that `run` of the recipe `name` trained, as a system; of `classes` where it knows some."""
    restored(gan.generator, run, "generator", device)
    return picture_system(gan, {"generator": gan.generator}, run, name, device, classes=classes)


def preview_noise(columns: int = 8, rows: int = 8, repeat: bool = False) -> Noise:
    """Noise of a sheet; with `repeat` that of one row again in every row, so that a column shows one z."""
    return SeedNoise([i % columns if repeat else i for i in range(columns * rows)])
