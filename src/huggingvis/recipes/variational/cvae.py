"""A conditional variational autoencoder of labelled pictures: asked for a class, it draws one of its pictures.

Sohn, Lee & Yan 2015, "Learning Structured Output Representation using Deep Conditional Generative Models" (NeurIPS):
a prior p(z|class) is learned with the rest, Eq. 4; `--alpha` below 1 mixes in draws from that prior, Eq. 7. A share of
the labels is left out in training, so that it also draws pictures of any class. The paper's own task, completing
digits, is the recipe `cvae_quadrants`. `validation` in metrics.jsonl is in nats per held-out picture given its class.
Sheets have a row for each class. Book: chapter 1.

    hvis train cvae --run runs/cvae --data mnist
    hvis generate 7 --model runs/cvae
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from huggingvis.core.classes import one_hot
from huggingvis.core.errors import UsageError
from huggingvis.core.noise import SeedNoise
from huggingvis.core.protocols import Batch, Measure, OnStep
from huggingvis.core.system import System
from huggingvis.nets.mlp_vae import MLPPrior
from huggingvis.objectives.cvae import CVAE, ConditionalELBO, StandardPrior, Vector
from huggingvis.recipes.autoencoders import VariationalTraining
from huggingvis.recipes.classes import LabelCondition, with_any
from huggingvis.recipes.picture_training import Sets, begin, fit_pictures, open_pictures, picture_system, restored
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts, Pictures
from huggingvis.train.run import Run

SYSTEM = {
    "name": "CVAE",
    "chapter": 1,
    "paper": "Sohn, Lee & Yan 2015",
    "files": [
        "objectives/cvae.py",
        "objectives/completion.py",
        "nets/mlp_vae.py",
        "nets/conv_vae.py",
        "recipes/variational/cvae_quadrants.py",
        "edits/explore/complete.py",
    ],
    "built": "tests/walks/test_variational.py::test_cvae_draws_the_class_it_is_asked_for",
    "exact": "tests/oracle/test_cvae.py::test_without_a_condition_it_is_the_vae",
    "trained": "benchmarks/trained/cvae_quadrants_1.json",
    "explained": None,
    "usable": None,
}
ROWS = 16


@dataclass(frozen=True)
class Config(VariationalTraining):
    """Numbers of the training.

    Attributes:
        prior: learned from the class, or standard, the same for all.
        alpha: share of the conditional bound in the loss, the rest draws from the prior.
        empty: share of the training labels left out.
    """

    prior: Literal["learned", "standard"] = "learned"
    alpha: float = 1.0
    empty: float = 0.1


@final
@dataclass(frozen=True, eq=False)
class SomeUnlabelled:
    """`Batches` of pictures with the share `empty` of their labels left out."""

    pictures: Pictures
    empty: float

    def batch(self, index: int, size: int) -> Batch:
        batch = self.pictures.batch(index, size)
        return {**batch, "label": with_any(batch["label"], self.empty, index)}


def network(config: Config, facts: Facts) -> CVAE:
    """The model with fresh weights. Raises `UsageError` for data without classes."""
    if not facts.classes:
        raise UsageError(
            f"A conditional autoencoder needs classes, and the data {facts.data!r} have none. Put each class's images "
            "into a sub-folder of its own, or train `vae`."
        )
    coders, shape, classes = config.coders(), facts.shape, len(facts.classes)
    learned = config.prior == "learned"
    prior = MLPPrior(classes, config.latent_dim) if learned else StandardPrior(config.latent_dim)
    encoder, decoder = coders.encoder(shape, cond_dim=classes), coders.decoder(shape, cond_dim=classes)
    return CVAE(encoder, decoder, prior, config.pixels(facts), Vector(classes), config.latent_dim)


def train(config: Config, setting: Setting) -> Run:
    """Train the autoencoder in `setting`'s run folder."""
    source = open_pictures(config, classes=True)
    model = network(config, source.facts).to(setting.device)
    run = begin(setting, "cvae", config, source)
    classes = len(source.facts.classes)
    labels = torch.arange(min(classes, ROWS)).repeat_interleave(8)
    vector = one_hot(labels, classes).to(setting.device)

    def draw(on_step: OnStep) -> Tensor:
        """A row of eight for each class, the same eight draws in every row."""
        return model.sample(len(vector), {"vector": vector}, noise=SeedNoise([i % 8 for i in range(len(vector))]))

    objective = ConditionalELBO(model, LabelCondition(classes), beta=config.beta, alpha=config.alpha)
    sets = Sets(SomeUnlabelled(source.training, config.empty), source.held_out)
    return fit_pictures(config, setting, run, objective, sets, draw=draw, updates=config.updates())


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained; prompts are class names, or empty for any."""
    facts = Facts.of(run)
    model = restored(network(config, facts), run, "cvae", device)
    return picture_system(model, {"cvae": model}, run, "cvae", device, classes=facts.classes)


def measure(config: Config, run: Run, device: torch.device) -> Measure:
    """The importance bound of log p of a picture given its class."""
    facts = Facts.of(run)
    model, condition = restored(network(config, facts), run, "cvae", device), LabelCondition(len(facts.classes))

    def each(batch: Batch, draws: int, seed: int) -> dict[str, Tensor]:
        y = model.likelihood.observe(batch["image"], torch.Generator(device).manual_seed(seed))
        return {"log_likelihood": model.log_prob(y, condition(batch), draws=draws, seed=seed)}

    meaning = "lower bound of log p of a picture given its class, in nats, by importance sampling"
    return Measure(each, f"{meaning}; {config.speaks_of(facts)}", draws=100)
