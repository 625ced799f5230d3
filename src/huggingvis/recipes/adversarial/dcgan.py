"""Deep convolutional adversarial nets: the first that trained steadily, with features worth having.

Radford, Metz & Chintala 2015, "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
Networks" (arXiv 1511.06434): the nets of Sec. 3 and the numbers of Sec. 4 (Adam 2e-4 with beta1 0.5, batches of 128,
uniform z of 100). The paper's generator has `width` 128 at 64 pixels. Book: chapter 2.

    hvis train dcgan --run runs/dcgan --data fashion_mnist
    hvis generate --model runs/dcgan
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from huggingvis.core.protocols import OnStep
from huggingvis.core.system import System
from huggingvis.metrics.features import Features
from huggingvis.nets.dcgan import DCGANCritic, DCGANGenerator
from huggingvis.objectives.gan import GAN, Adversarial, uniform
from huggingvis.recipes.adversarial_training import AdversarialTraining, bind_gan, fit_adversarial, preview_noise
from huggingvis.recipes.picture_training import begin, open_pictures, restored
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts
from huggingvis.train.run import Run

SYSTEM = {
    "name": "DCGAN",
    "chapter": 2,
    "paper": "1511.06434",
    "files": ["objectives/gan.py", "objectives/adversarial.py", "nets/dcgan.py", "metrics/linear_probe.py"],
    "built": "tests/walks/test_adversarial.py::test_dcgan_learns_loads_and_draws",
    "exact": "tests/oracle/test_gan_nets.py::test_dcgan_is_the_papers",
    "trained": "benchmarks/trained/dcgan.json",
    "explained": None,
    "usable": None,
}


@dataclass(frozen=True)
class Config(AdversarialTraining):
    """Numbers of the training.

    Attributes:
        width: channels at half the pictures' size, doubled at each further halving.
    """

    steps: int = 20_000
    batch: int = 128
    ema: float = 0.0  # batch statistics belong to the live weights, not to their average
    width: int = 64


def generator(config: Config, facts: Facts) -> GAN:
    """The generator with fresh weights."""
    shape = facts.shape
    return GAN(DCGANGenerator(shape, config.latent_dim, config.width), config.latent_dim, uniform)


def train(config: Config, setting: Setting) -> Run:
    """Train both nets in `setting`'s run folder."""
    source = open_pictures(config)
    facts = source.facts
    gan = generator(config, facts)
    critic = DCGANCritic(facts.shape, config.width)
    run = begin(setting, "dcgan", config, source)

    def draw(on_step: OnStep) -> Tensor:
        return gan.sample(64, {}, noise=preview_noise())

    return fit_adversarial(config, setting, run, Adversarial(gan, critic, config.rules()), source, draw)


def features(config: Config, run: Run, device: torch.device) -> Features:
    """What the discriminator of a run sees in pictures, Sec. 5.1."""
    critic = DCGANCritic(Facts.of(run).shape, config.width)
    return restored(critic, run, "critic", device).features


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained."""
    return bind_gan("dcgan", generator(config, Facts.of(run)), run, device)
