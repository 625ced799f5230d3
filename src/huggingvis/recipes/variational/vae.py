"""A variational autoencoder on small pictures.

Kingma & Welling 2013, "Auto-Encoding Variational Bayes" (arXiv 1312.6114): a Gaussian q(z|x) and a Bernoulli or
Gaussian p(x|z), trained on the evidence lower bound. `validation` in metrics.jsonl is that bound's negative in nats
per held-out picture, in its two parts. With `--draws 50` the importance-weighted bound of Burda, Grosse & Salakhutdinov
2015 (arXiv 1509.00519) is trained instead, whose negative is then `validation.bound`. The first 1000 steps of the
command below took 15 s of one CPU core and reached 112.0 nats on held-out binarised MNIST. Book: chapter 1.

    hvis train vae --run runs/vae --data mnist
    hvis generate --model runs/vae
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.noise import SeedNoise
from huggingvis.core.objective import Objective
from huggingvis.core.protocols import Measure, OnStep
from huggingvis.core.system import System
from huggingvis.objectives.vae import VAE, ImportanceWeighted, NegativeELBO
from huggingvis.recipes.autoencoders import VariationalTraining
from huggingvis.recipes.picture_training import begin, fit_pictures, open_pictures, picture_system, restored
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts
from huggingvis.train.run import Run

SYSTEM = {
    "name": "VAE",
    "chapter": 1,
    "paper": "1312.6114",
    "files": ["objectives/vae.py", "nets/mlp_vae.py", "nets/conv_vae.py"],
    "built": "tests/walks/test_recipes.py::test_vae_learns_loads_and_draws",
    "exact": "tests/oracle/test_vae.py::test_importance_bound_is_exact_where_the_posterior_is",
    "trained": "benchmarks/trained/vae.json",
    "explained": None,
    "usable": None,
}


@dataclass(frozen=True)
class Config(VariationalTraining):
    """Numbers of the training.

    Attributes:
        draws: z drawn for each picture; with more than one the importance-weighted bound is trained, without beta.
    """

    draws: int = 1

    def __post_init__(self) -> None:
        if self.draws > 1 and self.beta != 1.0:
            raise UsageError(
                f"The importance-weighted bound has no KL term to weigh: found {self.draws} draws and beta "
                f"{self.beta:g}. Leave one of the two at 1."
            )


def network(config: Config, facts: Facts) -> VAE:
    """The model with fresh weights."""
    coders = config.coders()
    return VAE(coders.encoder(facts.shape), coders.decoder(facts.shape), config.pixels(facts), config.latent_dim)


def train(config: Config, setting: Setting) -> Run:
    """Train the autoencoder in `setting`'s run folder."""
    source = open_pictures(config)
    vae = network(config, source.facts).to(setting.device)
    run = begin(setting, "vae", config, source)

    def draw(on_step: OnStep) -> Tensor:
        return vae.sample(64, {}, noise=SeedNoise(range(64)))

    objective: Objective = NegativeELBO(vae, config.beta)
    if config.draws != 1:
        objective = ImportanceWeighted(vae, config.draws)
    return fit_pictures(config, setting, run, objective, source, draw=draw, updates=config.updates())


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained: pictures are means of p(x|z) with z drawn from the prior."""
    vae = restored(network(config, Facts.of(run)), run, "vae", device)
    return picture_system(vae, {"vae": vae}, run, "vae", device)


def measure(config: Config, run: Run, device: torch.device) -> Measure:
    """The bounds that are told of such models; tables have L_5000."""
    facts = Facts.of(run)
    vae = restored(network(config, facts), run, "vae", device)
    meaning = "lower bounds of log p in nats per picture: elbo by one draw of z, log_likelihood by importance sampling"
    return Measure(vae.measure, f"{meaning}; {config.speaks_of(facts)}", draws=100)
