"""Completing digits of which one, two or three quadrants are seen, with a conditional variational autoencoder.

Sohn, Lee & Yan 2015, "Learning Structured Output Representation using Deep Conditional Generative Models" (NeurIPS),
Sec. 5.1: networks of two layers of 1000 units, 200 latent numbers, and beside them the baseline, the same network
without z, whose pixels are independent. Both are trained here at once, neither touching the other; the baseline needs
`--weight-decay`, or fewer steps, not to learn its pictures by heart. In metrics.jsonl, nats per held-out picture:
`validation.baseline` and, by importance sampling, `validation._negative_cll`. The paper has about 100.0, 62.1, 26.0 for
the baseline and 68.6, 45.6, 21.0 for the CVAE with 1, 2, 3 quadrants; `hvis evaluate` scores a trained run as its table
does. Sheets have eight digits: what is given, the truth, the baseline's prediction, and five draws.
Book: chapter 1.

    hvis train cvae_quadrants --run runs/quadrants --data mnist --seen 1
    hvis explore complete digit.png --model runs/quadrants --draws 8 -o completed.png
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from huggingvis.core import config as records
from huggingvis.core.noise import SeedNoise
from huggingvis.core.protocols import Batch, Cond, Measure, OnStep
from huggingvis.core.system import System
from huggingvis.nets.mlp_vae import MLPDecoder, MLPPrior
from huggingvis.objectives.completion import BesideBaseline, Completer, Independent, Quadrants
from huggingvis.objectives.cvae import CVAE, ConditionalELBO
from huggingvis.recipes.autoencoders import AutoencoderTraining, Coders, LikelihoodName, likelihood_name, likelihood_of
from huggingvis.recipes.picture_training import begin, fit_pictures, open_pictures, picture_system, restored
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts
from huggingvis.train.run import Run


@dataclass(frozen=True)
class Config(AutoencoderTraining):
    """Numbers of the training.

    Attributes:
        seen: quadrants that are given, 1 to 3: lower left, upper left, upper right.
        likelihood: of pixels, bernoulli (of pictures binarised anew each time), grey (Bernoulli of grey values as
            they are) or gaussian. None: bernoulli for grey pictures, gaussian for colour.
        std: deviation of Gaussian pixels; pictures span [-1, 1].
        widths: hidden layers of every network.
        latent_dim: numbers in z.
        alpha: share of the conditional bound in the loss, the rest draws from the prior.
    """

    seen: int = 1
    likelihood: LikelihoodName | None = None
    std: float = 0.2
    widths: tuple[int, ...] = (1000, 1000)
    latent_dim: int = 200
    alpha: float = 1.0


def pictures_given(batch: Batch) -> Cond:
    """The picture itself; the model reads of it only what is seen."""
    return {"concat": batch["image"]}


def networks(config: Config, facts: Facts) -> tuple[CVAE, Independent]:
    """The model and its baseline with fresh weights."""
    shape, given, widths = facts.shape, Quadrants(config.seen), config.widths
    numbers = shape[0] * shape[1] * shape[2]
    coders = Coders("mlp", widths, config.latent_dim)
    likelihood = likelihood_of(likelihood_name(config.likelihood, facts), config.std)
    encoder, decoder = coders.encoder(shape, cond_dim=numbers), coders.decoder(shape, cond_dim=numbers)
    prior = MLPPrior(numbers, config.latent_dim, widths)
    cvae = CVAE(encoder, decoder, prior, likelihood, given, config.latent_dim)
    return cvae, Independent(MLPDecoder(shape, numbers, widths), likelihood, given)


def train(config: Config, setting: Setting) -> Run:
    """Train both in `setting`'s run folder."""
    source = open_pictures(config)
    cvae, baseline = networks(config, source.facts)
    objective = BesideBaseline(ConditionalELBO(cvae, pictures_given, alpha=config.alpha), baseline).to(setting.device)
    run = begin(setting, "cvae_quadrants", config, source)
    truth = source.held_out.batch(0, min(8, len(source.held_out)))["image"].to(setting.device)

    def draw(on_step: OnStep) -> Tensor:
        cond, n = {"concat": truth}, len(truth)
        given = cvae.given.complete(torch.zeros_like(truth), cond)
        draws = [cvae.sample(n, cond, noise=SeedNoise(range(i * n, (i + 1) * n))) for i in range(5)]
        return torch.cat([given, truth, baseline.predict(cond), *draws])

    return fit_pictures(config, setting, run, objective, source, draw=draw, updates=config.updates())


def networks_of(run: Run, device: torch.device) -> tuple[CVAE, Independent]:
    """What a run of this recipe trained, ready to use: the model and its baseline."""
    config: Config = records.from_dict(Config, run.config["config"])
    cvae, baseline = networks(config, Facts.of(run))
    return restored(cvae, run, "cvae", device), restored(baseline, run, "baseline", device)


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained: it completes the pictures it is given, and draws none without."""
    cvae, baseline = networks_of(run, device)
    model = Completer(cvae, Quadrants(config.seen))
    return picture_system(model, {"cvae": cvae, "baseline": baseline}, run, "cvae_quadrants", device)


def measure(config: Config, run: Run, device: torch.device) -> Measure:
    """The rows of the paper's table 1."""
    cvae, baseline = networks_of(run, device)

    def each(batch: Batch, draws: int, seed: int) -> dict[str, Tensor]:
        return negative_cll(cvae, baseline, batch["image"], draws, seed)

    return Measure(each, "negative log p of the hidden quadrants given the others, in nats per picture", draws=100)


@torch.no_grad()
def negative_cll(cvae: CVAE, baseline: Independent, x: Tensor, draws: int = 100, seed: int = 0) -> dict[str, Tensor]:
    """The rows of the paper's table 1 for each of the pictures x [B, C, H, W]: nats, [B], lower is better."""
    y = cvae.likelihood.observe(x, torch.Generator(x.device).manual_seed(seed))
    cond = {"concat": y}
    return {
        "baseline": -baseline.log_prob(y, cond),
        "monte_carlo": -cvae.monte_carlo_log_prob(y, cond, draws=draws, seed=seed),
        "importance": -cvae.log_prob(y, cond, draws=draws, seed=seed),
    }
