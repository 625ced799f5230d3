"""An autoencoder: pictures through a bottleneck of a few numbers and back.

Hinton & Salakhutdinov 2006, "Reducing the Dimensionality of Data with Neural Networks" (Science 313, 504): 784 values
of a digit through layers of 1000, 500 and 250 units into 30 numbers. Their figure, the squared error of a held-out
picture of values in [0, 1] (3.00, where 30 principal components leave 13.87), is `validation._squared_error` in
metrics.jsonl. Layers are trained together from the start, with SiLU units and a decaying rate, where the paper trains
restricted Boltzmann machines first; `--steps 400` reaches 9.4, less than the principal components. Sheets show
held-out pictures, each row above its reconstructions, and samples: codes drawn from the normal law of the codes seen in
training. Book: chapter 1.

    hvis train autoencoder --run runs/autoencoder --data mnist
    hvis generate --model runs/autoencoder
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from huggingvis.core.noise import SeedNoise
from huggingvis.core.protocols import Measure, OnStep
from huggingvis.core.system import System
from huggingvis.objectives.autoencoder import Autoencoder, CrossEntropy, PixelError, Reconstruction, SquaredError
from huggingvis.recipes.autoencoders import AutoencoderTraining, Coders, NetName
from huggingvis.recipes.picture_training import begin, fit_pictures, open_pictures, picture_system, restored
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts
from huggingvis.train.run import Run

SYSTEM = {
    "name": "Autoencoder",
    "chapter": 1,
    "paper": "10.1126/science.1127647",
    "files": ["objectives/autoencoder.py", "nets/mlp_vae.py", "nets/conv_vae.py"],
    "built": "tests/walks/test_variational.py::test_autoencoder_learns_loads_and_draws",
    "exact": "tests/oracle/test_autoencoder.py::test_a_linear_autoencoder_finds_the_principal_subspace",
    "trained": "benchmarks/trained/autoencoder.json",
    "explained": None,
    "usable": None,
}


@dataclass(frozen=True)
class Config(AutoencoderTraining):
    """Numbers of the training.

    Attributes:
        loss: squared (error of logistic outputs), linear (squared error of unbounded outputs) or entropy (of grey
            values).
        net: mlp or conv.
        widths: hidden layers of the encoder, from the picture on; the decoder has them in reverse. None: 1000, 500,
            250 for mlp and 32, 64, 128 for conv.
        latent_dim: numbers in the bottleneck.
    """

    loss: Literal["squared", "linear", "entropy"] = "squared"
    net: NetName = "mlp"
    widths: tuple[int, ...] | None = None
    latent_dim: int = 30
    steps: int = 20_000
    schedule: Literal["constant", "cosine"] = "cosine"


def network(config: Config, facts: Facts) -> Autoencoder:
    """The model with fresh weights."""
    errors: dict[str, PixelError] = {
        "squared": SquaredError(logistic=True),
        "linear": SquaredError(),
        "entropy": CrossEntropy(),
    }
    coders = Coders.of(config.net, config.widths, config.latent_dim, usual=(1000, 500, 250))
    encoder, decoder = coders.encoder(facts.shape, moments=1), coders.decoder(facts.shape)
    return Autoencoder(encoder, decoder, errors[config.loss], config.latent_dim)


def train(config: Config, setting: Setting) -> Run:
    """Train the autoencoder in `setting`'s run folder."""
    source = open_pictures(config)
    model = network(config, source.facts).to(setting.device)
    run = begin(setting, "autoencoder", config, source)
    seen = source.held_out.batch(0, min(16, len(source.held_out)))["image"].to(setting.device)

    def draw(on_step: OnStep) -> Tensor:
        again = model.decode(model.encode(seen))
        pairs = [rows for part in zip(seen.split(8), again.split(8), strict=True) for rows in part]
        return torch.cat([*pairs, model.sample(32, {}, noise=SeedNoise(range(32)))])

    return fit_pictures(config, setting, run, Reconstruction(model), source, draw=draw, updates=config.updates())


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained: pictures of codes drawn from the normal law of the codes seen."""
    model = restored(network(config, Facts.of(run)), run, "autoencoder", device)
    return picture_system(model, {"autoencoder": model}, run, "autoencoder", device)


def measure(config: Config, run: Run, device: torch.device) -> Measure:
    """The paper's figure."""
    model = restored(network(config, Facts.of(run)), run, "autoencoder", device)
    return Measure(model.measure, "sum of squared errors per picture of values in [0, 1]")
