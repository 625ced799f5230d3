"""Adversarial nets that are told a class: one generator draws whichever is asked for.

Mirza & Osindero 2014, "Conditional Generative Adversarial Nets" (arXiv 1411.1784): the value function of Eq. 2, the
nets and the uniform noise of Sec. 4.1. Adam stands in for momentum. Rows of the sample sheets are classes, columns
share their z. `_spread` in metrics.jsonl is that within classes. Book: chapter 2.

    hvis train cgan --run runs/cgan --data mnist
    hvis generate 7 --model runs/cgan
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from huggingvis.core.protocols import OnStep
from huggingvis.core.system import System
from huggingvis.nets.cgan import CGANCritic, CGANGenerator, CGANSizes
from huggingvis.objectives.gan import GAN, Adversarial, uniform
from huggingvis.recipes.adversarial_training import AdversarialTraining, bind_gan, fit_adversarial, preview_noise
from huggingvis.recipes.classes import LabelCondition, each_class
from huggingvis.recipes.denoisers import classes_of
from huggingvis.recipes.picture_training import begin, open_pictures
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts
from huggingvis.train.run import Run

SYSTEM = {
    "name": "CGAN",
    "chapter": 2,
    "paper": "1411.1784",
    "files": ["objectives/gan.py", "objectives/adversarial.py", "nets/cgan.py", "metrics/parzen.py"],
    "built": "tests/walks/test_adversarial.py::test_cgan_learns_its_classes",
    "exact": "tests/oracle/test_gan.py::test_permuted_labels_permute_pictures",
    "trained": "benchmarks/trained/cgan.json",
    "explained": None,
    "usable": None,
}


@dataclass(frozen=True)
class Config(AdversarialTraining):
    """Numbers of the training.

    Attributes:
        net: sizes of both nets.
    """

    steps: int = 50_000
    batch: int = 100
    net: CGANSizes = CGANSizes()


def generator(config: Config, facts: Facts) -> GAN:
    """The generator with fresh weights. Raises `UsageError` for data without classes."""
    shape, classes = facts.shape, classes_of(True, facts)
    net = CGANGenerator(shape, config.latent_dim, len(classes), config.net)
    return GAN(net, net.latents, uniform)


def train(config: Config, setting: Setting) -> Run:
    """Train both nets in `setting`'s run folder."""
    source = open_pictures(config, classes=True)
    facts = source.facts
    gan = generator(config, facts)
    critic = CGANCritic(facts.shape, len(facts.classes), config.net)
    objective = Adversarial(gan, critic, config.rules(), LabelCondition(len(facts.classes)))
    run = begin(setting, "cgan", config, source)
    shown = {"vector": each_class(len(facts.classes), 8, setting.device)}

    def draw(on_step: OnStep) -> Tensor:
        return gan.sample(len(shown["vector"]), shown, noise=preview_noise(8, len(facts.classes), repeat=True))

    return fit_adversarial(config, setting, run, objective, source, draw)


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained; a prompt names a class, the empty one leaves it to chance."""
    facts = Facts.of(run)
    return bind_gan("cgan", generator(config, facts), run, device, facts.classes)
