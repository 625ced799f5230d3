"""The first generative adversarial nets: two multilayer perceptrons against each other.

Goodfellow et al. 2014, "Generative Adversarial Nets" (arXiv 1406.2661): the value function of Eq. 1, the non-saturating
loss of Sec. 3, rectifiers against maxout units with dropout as in Sec. 5. Adam stands in for momentum; other games and
penalties go by name. `_spread` and `_rank` in metrics.jsonl tell mode collapse. Book: chapter 2.

    hvis train gan --run runs/gan --data mnist
    hvis generate --model runs/gan
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from huggingvis.core.protocols import OnStep
from huggingvis.core.system import System
from huggingvis.nets.mlp_gan import MaxoutCritic, MLPCritic, MLPGenerator
from huggingvis.objectives.gan import GAN, Adversarial
from huggingvis.recipes.adversarial_training import (
    PRIORS,
    AdversarialTraining,
    bind_gan,
    fit_adversarial,
    preview_noise,
)
from huggingvis.recipes.picture_training import begin, open_pictures
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts
from huggingvis.train.run import Run

SYSTEM = {
    "name": "GAN",
    "chapter": 2,
    "paper": "1406.2661",
    "files": ["objectives/gan.py", "objectives/adversarial.py", "nets/mlp_gan.py", "metrics/parzen.py"],
    "built": "tests/walks/test_adversarial.py::test_gan_learns_loads_and_draws",
    "exact": "tests/oracle/test_gan.py::test_best_critic_is_the_density_ratio",
    "trained": "benchmarks/trained/gan.json",
    "explained": None,
    "usable": None,
}


@dataclass(frozen=True)
class Config(AdversarialTraining):
    """Numbers of the training.

    Attributes:
        prior: of z, normal or uniform on [-1, 1].
        hidden: widths of the generator's hidden layers.
        critic: maxout with dropout, or leaky rectifiers without.
        critic_hidden: widths of the critic's hidden layers.
    """

    steps: int = 50_000
    batch: int = 100
    prior: Literal["normal", "uniform"] = "normal"
    hidden: tuple[int, ...] = (1200, 1200)
    critic: Literal["maxout", "leaky"] = "maxout"
    critic_hidden: tuple[int, ...] = (240, 240)


def generator(config: Config, facts: Facts) -> GAN:
    """The generator with fresh weights."""
    shape = facts.shape
    return GAN(MLPGenerator(shape, config.latent_dim, config.hidden), config.latent_dim, PRIORS[config.prior])


def critic(config: Config, facts: Facts) -> nn.Module:
    """The critic with fresh weights."""
    shape = facts.shape
    return (MaxoutCritic if config.critic == "maxout" else MLPCritic)(shape, config.critic_hidden)


def train(config: Config, setting: Setting) -> Run:
    """Train both nets in `setting`'s run folder."""
    source = open_pictures(config)
    gan = generator(config, source.facts)
    objective = Adversarial(gan, critic(config, source.facts), config.rules())
    run = begin(setting, "gan", config, source)

    def draw(on_step: OnStep) -> Tensor:
        return gan.sample(64, {}, noise=preview_noise())

    return fit_adversarial(config, setting, run, objective, source, draw)


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained."""
    return bind_gan("gan", generator(config, Facts.of(run)), run, device)
