"""The first stage of models of codes: an autoencoder with a quantiser, and the codes of all pictures stored once.

van den Oord et al. 2017 (arXiv 1711.00937), Sec. 3.3 and 4: the autoencoder is trained under a uniform prior and
frozen; whatever models the codes comes after it. Book: chapter 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, final

import numpy as np
import torch
from torch import Tensor, nn

from huggingvis.core.config import to_dict
from huggingvis.core.protocols import OnStep
from huggingvis.data.cache import ArrayCache, Recipe
from huggingvis.nets.autoencoder_kl import AutoencoderConfig
from huggingvis.nets.lookup_free import FiniteScalarQuantiser, LookupFreeQuantiser
from huggingvis.nets.quantisers import AveragedQuantiser, Quantiser, VectorQuantiser
from huggingvis.nets.vq_autoencoder import grid_of, latent_vq, residual_vq
from huggingvis.objectives.code_prior import UniformCodes
from huggingvis.objectives.discretised import DiscretisedLogistic
from huggingvis.objectives.vae import Bernoulli, Gaussian, Likelihood
from huggingvis.objectives.vq_vae import VQVAE, VectorQuantised
from huggingvis.recipes.alarms import name_trouble
from huggingvis.recipes.denoisers import check_side
from huggingvis.recipes.picture_training import PictureTraining, Updates, fit_pictures, restored
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts, Pictures, Source
from huggingvis.train.callbacks import TrainStep
from huggingvis.train.optim import Cosine, Optim
from huggingvis.train.run import Run

GROUPS = 8


@dataclass(frozen=True)
class Averaged:
    """A codebook that follows the means of its latents.

    Attributes:
        codes: vectors in the codebook.
        dim: numbers of each.
        commitment: weight beta of the commitment loss.
        decay: of the averages.
        revive: a code used less than this share of even use moves onto a latent of the batch; 0 for never.
    """

    codes: int = 512
    dim: int = 64
    commitment: float = 0.25
    decay: float = 0.99
    revive: float = 0.05

    def build(self) -> Quantiser:
        return AveragedQuantiser(self.codes, self.dim, self.commitment, self.decay, self.revive)


@dataclass(frozen=True)
class ByGradient:
    """A codebook with a loss of its own.

    Attributes:
        codes: vectors in the codebook.
        dim: numbers of each.
        commitment: weight beta of the commitment loss.
    """

    codes: int = 512
    dim: int = 64
    commitment: float = 0.25

    def build(self) -> Quantiser:
        return VectorQuantiser(self.codes, self.dim, self.commitment)


@dataclass(frozen=True)
class FSQ:
    """No codebook: each channel is rounded to a few values.

    Attributes:
        levels: how many for each channel; their product is the number of codes.
    """

    levels: tuple[int, ...] = (8, 8, 8)

    def build(self) -> Quantiser:
        return FiniteScalarQuantiser(self.levels)


@dataclass(frozen=True)
class LFQ:
    """No codebook: the sign of each channel is a bit of the code.

    Attributes:
        bits: channels.
        commitment: weight of the commitment loss.
        entropy: weight of the entropy loss.
        temperature: of the soft assignment in it.
    """

    bits: int = 9
    commitment: float = 0.25
    entropy: float = 0.02
    temperature: float = 1.0

    def build(self) -> Quantiser:
        return LookupFreeQuantiser(self.bits, self.commitment, self.entropy, temperature=self.temperature)


@dataclass(frozen=True)
class TokenStage:
    """Numbers of the autoencoder.

    Attributes:
        quantiser: Averaged, ByGradient, FSQ or LFQ.
        likelihood: of pixels, logistic (of 8-bit values, with bits per dimension), gaussian, or grey (Bernoulli of
            grey values as they are).
        std: deviation of Gaussian pixels; pictures span [-1, 1].
        net: residual, as in the paper, or latent, as in latent diffusion (a run can then be exported to diffusers).
        width: channels; multiples of 16 for the latent net.
        halvings: how often the picture is halved on the way to codes.
        blocks: residual blocks (of each level in the latent net).
        steps: optimiser steps.
        batch: pictures a step.
        lr: learning rate, which falls to a tenth.
    """

    quantiser: Averaged | ByGradient | FSQ | LFQ = field(default_factory=Averaged)
    likelihood: Literal["logistic", "gaussian", "grey"] = "logistic"
    std: float = 0.1
    net: Literal["residual", "latent"] = "residual"
    width: int = 128
    halvings: int = 2
    blocks: int = 2
    steps: int = 5000
    batch: int = 64
    lr: float = 1e-3

    @property
    def pixels(self) -> tuple[Likelihood, int]:
        """The likelihood, and how many numbers of the decoder it takes for each value."""
        named: dict[str, tuple[Likelihood, int]] = {
            "logistic": (DiscretisedLogistic(), 2),
            "gaussian": (Gaussian(self.std), 1),
            "grey": (Bernoulli(), 1),
        }
        return named[self.likelihood]

    def sizes(self, channels: int) -> AutoencoderConfig:
        """Of the latent net, for pictures of so many channels."""
        widths = (self.width // 2, *(self.width,) * self.halvings)
        dim = self.quantiser.build().dim
        return AutoencoderConfig(channels, dim, widths, self.blocks, groups=GROUPS)


def fresh(config: TokenStage, facts: Facts) -> VQVAE:
    """The first stage with fresh weights; every grid of codes is equally likely.

    Raises `UsageError` for pictures that cannot be halved so often.
    """
    check_side(facts.size, 2**config.halvings)
    quantiser, (likelihood, outputs) = config.quantiser.build(), config.pixels
    channels = (facts.channels, facts.channels * outputs)
    if config.net == "latent":
        net = latent_vq(quantiser, config.sizes(facts.channels), channels[1])
    else:
        net = residual_vq(quantiser, channels, config.width, config.halvings, config.blocks)
    grid = grid_of(net, facts.shape)
    return VQVAE(net, likelihood, UniformCodes(quantiser.size, grid))


@torch.no_grad()
def begin_at_mean(model: VQVAE, x: Tensor) -> None:
    """Sets the decoder's last bias so that at first it gives the mean (and the spread) of the pictures `x`.

    Else all latents hurry one way together to make up for it, away from the codebook or out of the reach of tanh.
    """
    mean, std = x.mean((0, 2, 3)), x.std((0, 2, 3)).clamp(min=0.01)  # [C]
    convs = [m for m in model.autoencoder.decoder.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert convs[-1].bias is not None
    convs[-1].bias.copy_(model.likelihood.saying(mean, std))


def train_tokens(
    config: TokenStage, model: VQVAE, training: PictureTraining, source: Source, run: Run, setting: Setting
) -> None:
    """Train `model` in the folder `autoencoder` of `run`, or go on in it, or find it done; then it is frozen.

    `training` says the rest. Sheets show held-out pictures above their reconstructions.
    """
    begin_at_mean(model, source.training.batch(0, 256)["image"])
    model.to(setting.device)
    net = model.autoencoder
    record = {"stage": "autoencoder", "config": to_dict(config)}
    stage = Run.begin(run.path / "autoencoder", record, resume=True, parallel=run.parallel)
    seen = source.held_out.batch(0, min(32, len(source.held_out)))["image"].to(setting.device)

    def draw(on_step: OnStep) -> Tensor:
        halves = zip(seen.split(8), model.decode(model.encode(seen)).split(8), strict=True)
        return torch.cat([part for pair in halves for part in pair])

    fit_pictures(
        replace(training, steps=config.steps, batch=config.batch, lr=config.lr),
        setting,
        stage,
        VectorQuantised(net, model.likelihood, discrete=config.likelihood == "logistic"),
        source,
        draw=draw,
        updates=Updates(Optim(lr=config.lr, warmup=min(100, config.steps // 10), schedule=Cosine(config.steps, 0.1))),
        on_step=[CollapseWatch(net.quantiser.size)],
    )
    model.eval().requires_grad_(False)


def bind_tokens(config: TokenStage, facts: Facts, run: Run, device: torch.device) -> VQVAE:
    """A finished first stage, from the folder of `run`. Raises `FileProblem` where a part is missing."""
    model = fresh(config, facts)
    restored(model.autoencoder, Run.open(run.path / "autoencoder"), "autoencoder", device)
    return model.to(device)


@final
@dataclass(frozen=True)
class CollapseWatch:
    """Says, every `every` steps from the second time on, if a batch is served by a few of `size` codes alone."""

    size: int
    every: int = 250

    def __call__(self, at: TrainStep) -> None:
        used = at.losses.get("loss._perplexity", float(self.size))
        if at.step % self.every or at.step < 2 * self.every or used > max(1.5, self.size / 50):
            return
        name_trouble(
            at,
            f"Codebook collapse: the pictures of a batch share {used:.1f} of {self.size} codes, so they cannot differ "
            "by more. Lower the learning rate, take quantiser Averaged with a larger `revive` or a smaller "
            "`commitment`, or FSQ, which has no codebook.",
        )


@final
class CodeTable:
    """Codes of all pictures and log p(x|c) in nats, encoded once and kept in `cache`, mirrored ones where the view has
    them."""

    def __init__(self, pictures: Pictures, model: VQVAE, cache: ArrayCache, key: Recipe):
        self.pictures, self.model = pictures, model
        self.tables = cache.get_or_make(key, self._encoded)  # codes [1 or 2, N, h, w] int32, given [1 or 2, N]

    def __call__(self, places: np.ndarray, mirrored: np.ndarray) -> tuple[Tensor, Tensor]:
        """Codes int64 [B, h, w] and nats [B]."""
        turned = mirrored.astype(np.int64)
        codes, given = self.tables["codes"][turned, places], self.tables["given"][turned, places]
        return torch.from_numpy(codes).long(), torch.from_numpy(given)

    @torch.no_grad()
    def _encoded(self) -> dict[str, np.ndarray]:
        device = next(self.model.parameters()).device
        rng, codes, given = torch.Generator(device), [], []
        sides = (False, True) if self.pictures.view.flip else (False,)
        for turned in sides:
            for start in range(0, len(self.pictures), 256):
                places = np.arange(start, min(start + 256, len(self.pictures)))
                x = self.pictures.images(places, np.full(len(places), turned)).to(device)
                found, nats = self.model.given(self.model.likelihood.observe(x, rng))
                codes.append(found.int().cpu())
                given.append(nats.float().cpu())
        shape = (len(sides), len(self.pictures))
        return {"codes": torch.cat(codes).unflatten(0, shape).numpy(), "given": torch.cat(given).view(shape).numpy()}
