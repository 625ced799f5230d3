"""What `published.py` measures of a finished run, by the library's own functions; one function for each kind of figure.

Every measure takes the run and the pictures to score, and tells each figure with its standard error. Pictures are
binarised or dequantised by draws that depend on the seed alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import huggingvis as hv
from huggingvis.core.noise import BatchNoise
from huggingvis.core.protocols import Generative
from huggingvis.core.request import Request
from huggingvis.data.standard import Split, standard_set
from huggingvis.metrics.bits import bits_per_dim
from huggingvis.metrics.parzen import parzen
from huggingvis.nets.flows.model import Flow
from huggingvis.objectives.autoencoder import Autoencoder
from huggingvis.objectives.likelihood import log_probability
from huggingvis.objectives.vae import VAE
from huggingvis.recipes.classes import one_hot
from huggingvis.recipes.sources import Facts
from huggingvis.recipes.variational.cvae_quadrants import negative_cll, networks_of
from huggingvis.train.run import Run

CHUNK = 500
FOR_WIDTH = 10
"""One of so many validation pictures serves to choose the width of Parzen windows (1,000, as in the authors' code)."""


@dataclass(frozen=True)
class Scored:
    """Pictures to score [N, 1, 28, 28] in [-1, 1], training pictures [M, ...], and numbers of the measurement."""

    pictures: Tensor
    training: Tensor
    for_width: Tensor
    draws: int
    seed: int = 0


@dataclass(frozen=True)
class Figure:
    """A mean over pictures and its standard error (None where only means are told)."""

    value: float
    error: float | None = None

    @classmethod
    def of(cls, each: Tensor) -> Figure:
        """The mean of numbers for each picture, [N]."""
        return cls(float(each.double().mean()), float(each.double().std()) / math.sqrt(len(each)))


Measure = Callable[[Run, Scored], Mapping[str, Figure]]


def pictures_of(run: Run, split: str, root: Path | None, count: int, draws: int) -> Scored:
    """The last 10,000 training digits for `validation`, for which some are kept apart, or the official test set.

    `root`: where its files lie; none: where the run found its training set.
    """
    name, _, place = str(run.config["config"]["data"]).partition(":")
    known, folder = standard_set(name), root or Path(place or run.config["config"]["root"])

    def read(part: Split) -> Tensor:
        return torch.from_numpy(known.load(folder, part).images).permute(0, 3, 1, 2).float() / 127.5 - 1

    validation = read(Split.VALIDATION)
    apart = -(-len(validation) // FOR_WIDTH)
    needed = MEASURES[run.config["recipe"]] is parzen_window  # what chooses the width is not scored
    scored = read(Split.TEST) if split == "test" else validation[apart:] if needed else validation
    return Scored(scored[:count], read(Split.TRAIN), validation[:apart], draws)


def _chunks(part: Callable[[Tensor], Tensor], x: Tensor, size: int = CHUNK) -> Tensor:
    with torch.no_grad():
        return torch.cat([part(rows) for rows in x.split(size)])


def autoencoder(run: Run, told: Scored) -> Mapping[str, Figure]:
    """Squared error of reconstructions in [0, 1], and of as many principal components of the training pictures."""
    model = hv.load(run.path).parts["autoencoder"]
    assert isinstance(model, Autoencoder)

    def missed(x: Tensor) -> Tensor:
        return ((model.decode(model.encode(x)) - x) / 2).square().flatten(1).sum(1)

    rows = ((told.training + 1) / 2).flatten(1).double()
    mean = rows.mean(0)
    components = torch.linalg.eigh(torch.cov(rows.T))[1][:, -model.latent_dim :]  # [D, 30], largest last
    off = ((told.pictures + 1) / 2).flatten(1).double() - mean
    left = (off - off @ components @ components.T).square().sum(1)
    return {"squared_error": Figure.of(_chunks(missed, told.pictures)), "pca": Figure.of(left)}


def vae(run: Run, told: Scored) -> Mapping[str, Figure]:
    """The importance-weighted bound of log p of binarised pictures."""
    model = hv.load(run.path).parts["vae"]
    assert isinstance(model, VAE)
    x = model.likelihood.observe(told.pictures, torch.Generator().manual_seed(told.seed))
    each = [model.log_prob(part, draws=told.draws, seed=told.seed + i) for i, part in enumerate(x.split(2 * CHUNK))]
    return {"log_likelihood": Figure.of(torch.cat(each))}


def quadrants(run: Run, told: Scored) -> Mapping[str, Figure]:
    """Minus the conditional log-likelihoods of the paper's table; errors are those of means of batches."""
    cvae, baseline = networks_of(run, torch.device("cpu"))
    rows = [
        negative_cll(cvae, baseline, [x], draws=min(told.draws, 100), seed=told.seed + i)
        for i, x in enumerate(told.pictures.split(CHUNK))
    ]
    means = {key: torch.tensor([row[key] for row in rows]) for key in rows[0]}
    if len(rows) < 2:
        return {key: Figure(float(found)) for key, found in means.items()}
    return {key: Figure.of(found) for key, found in means.items()}


def density(run: Run, told: Scored) -> Mapping[str, Figure]:
    """Log p of dequantised pictures in [0, 1] in nats, and bits per dimension of 8-bit ones."""
    flow = hv.load(run.path).parts["flow"]
    assert isinstance(flow, Flow)
    nats = torch.cat(
        [log_probability(flow, x, seed=told.seed + i) for i, x in enumerate(told.pictures.split(CHUNK))]
    )  # of 8-bit values
    return {
        "log_likelihood": Figure.of(nats + flow.dims * math.log(256)),
        "bits_per_dim": Figure.of(bits_per_dim(nats, flow.dims, levels=None)),
    }


def parzen_window(run: Run, told: Scored) -> Mapping[str, Figure]:
    """Log-likelihood under windows around 10,000 generated pictures, as many of each class where there are some."""
    model = hv.load(run.path).generator(Request())
    classes = len(Facts.of(run).classes) if run.config["recipe"] == "cgan" else 0
    samples = torch.cat([_drawn(model, i, classes, told.seed) for i in range(10_000 // CHUNK)])
    score = parzen(samples, told.for_width, told.pictures)
    return {"parzen": Figure(score.mean, score.error), "width": Figure(score.sigma)}


@torch.no_grad()
def _drawn(model: Generative, index: int, classes: int, seed: int) -> Tensor:
    labels = torch.from_numpy(np.arange(CHUNK) % max(classes, 1))
    cond = {"vector": one_hot(labels, classes)} if classes else {}
    return model.sample(CHUNK, cond, noise=BatchNoise(1000 * seed + index))


MEASURES: dict[str, Measure] = {
    "autoencoder": autoencoder,
    "vae": vae,
    "cvae_quadrants": quadrants,
    "gan": parzen_window,
    "cgan": parzen_window,
    "nice": density,
    "realnvp": density,
    "glow": density,
}
