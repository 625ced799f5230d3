"""VQ-VAE on any small picture source: an autoencoder with discrete codes first, then a causal prior of its codes.

van den Oord, Vinyals & Kavukcuoglu 2017, "Neural Discrete Representation Learning" (arXiv 1711.00937): pictures become
grids of codes (Eq. 1 to 3; the codebook follows its latents, App. A.1), and an autoregressive model of the grids, with
the source's classes if it has some, makes it a generative model (Sec. 3.3). Finite scalar (2309.15505) and lookup-free
(2310.05737) quantisers can take the codebook's place. The first stage keeps a run folder of its own inside this one.
`validation._bits_per_dim` in metrics.jsonl bounds the bits that each 8-bit value costs: pixels given codes, and codes
(given their class, if the prior knows classes). Book: chapter 1.

    hvis train vq_vae --run runs/vq --data mnist
    hvis generate 7 --model runs/vq
    hvis train vq_vae --run runs/fsq --data mnist --autoencoder.quantiser FSQ --autoencoder.quantiser.levels 8,6,5
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import final

import torch
from torch import Tensor

from huggingvis.core.classes import one_hot
from huggingvis.core.noise import SeedNoise
from huggingvis.core.protocols import Batch, Measure, OnStep
from huggingvis.core.request import Sampling
from huggingvis.core.system import System
from huggingvis.data.cache import ArrayCache
from huggingvis.nets.code_prior import CodePrior, CodePriorConfig
from huggingvis.objectives.code_prior import AutoregressiveCodes, CodeLikelihood
from huggingvis.objectives.denoise import unconditional
from huggingvis.objectives.vq_vae import VQVAE
from huggingvis.recipes.classes import LabelCondition, with_any
from huggingvis.recipes.denoisers import classes_of
from huggingvis.recipes.picture_training import (
    PictureTraining,
    Sets,
    Updates,
    begin,
    fit_pictures,
    open_pictures,
    picture_system,
    restored,
)
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts, Pictures
from huggingvis.recipes.token_stage import CodeTable, TokenStage, bind_tokens, fresh, train_tokens
from huggingvis.train.ema import ConstantDecay, Ema
from huggingvis.train.optim import Optim
from huggingvis.train.run import Run

SYSTEM = {
    "name": "VQ-VAE",
    "chapter": 1,
    "paper": "1711.00937",
    "files": [
        "objectives/vq_vae.py",
        "objectives/code_prior.py",
        "objectives/discretised.py",
        "nets/quantisers.py",
        "nets/lookup_free.py",
        "nets/vq_autoencoder.py",
        "nets/code_prior.py",
        "checkpoints/diffusers_vq.py",
    ],
    "built": "tests/walks/test_vq_vae.py::test_vq_vae_learns_loads_and_draws",
    "exact": "tests/interop/test_vq.py::test_vq_autoencoder_is_diffusers",
    "trained": "benchmarks/trained/vq_vae.json",
    "explained": None,
    "usable": None,
}


@dataclass(frozen=True)
class PriorSizes:
    """Sizes of the prior, a causal transformer.

    Attributes:
        dim: channels.
        depth: blocks.
        heads: attention heads.
        dropout: of embeddings and of what each block adds.
    """

    dim: int = 192
    depth: int = 4
    heads: int = 6
    dropout: float = 0.1


@dataclass(frozen=True)
class Config(PictureTraining):
    """Numbers of the training; `steps`, `batch` and `lr` are the prior's.

    Attributes:
        autoencoder: numbers of the first stage.
        prior: sizes of the prior.
        conditional: learn the data's classes; none: if they have some.
        empty: share of labels left out, so that the empty prompt draws from all classes.
        warmup: steps over which the learning rate rises.
        ema: decay of the averaged weights of the prior.
    """

    autoencoder: TokenStage = field(default_factory=TokenStage)
    prior: PriorSizes = PriorSizes()
    conditional: bool | None = None
    empty: float = 0.1
    batch: int = 64
    lr: float = 1e-3
    warmup: int = 200
    ema: float = 0.999


def prior(config: Config, size: int, grid: tuple[int, int], classes: tuple[str, ...]) -> CodePrior:
    """The prior with fresh weights."""
    p = config.prior
    return CodePrior(CodePriorConfig(size, *grid, p.dim, p.depth, p.heads, len(classes), p.dropout))


@final
@dataclass(frozen=True, eq=False)
class Examples:
    """`Batches` of `codes`, `given` and, for a conditional model, `label` with the share `empty` of them left out."""

    pictures: Pictures
    table: CodeTable
    conditional: bool
    empty: float

    def batch(self, index: int, size: int) -> Batch:
        places = self.pictures.places(index, size)
        codes, given = self.table(places, self.pictures.mirrored(index, size))
        out = {"codes": codes, "given": given}
        labels = self.pictures.labels(places)
        if self.conditional and labels is not None:
            out["label"] = with_any(labels, self.empty, index)
        return out


def joined(first: VQVAE, net: CodePrior) -> VQVAE:
    """The first stage with a learnt prior in place of the uniform one."""
    return VQVAE(first.autoencoder, first.likelihood, AutoregressiveCodes(net))


def train(config: Config, setting: Setting) -> Run:
    """Train both stages in `setting`'s run folder."""
    source = open_pictures(config, classes=bool(config.conditional))
    facts, classes = source.facts, classes_of(config.conditional, source.facts)
    first = fresh(config.autoencoder, facts)
    net = prior(config, first.codes.size, first.codes.grid, classes).to(setting.device)
    run = begin(setting, "vq_vae", config, source)
    train_tokens(config.autoencoder, first, config, source, run, setting)
    model, cache = joined(first, net), ArrayCache(run.path / "cache")

    def examples(pictures: Pictures, part: str, empty: float) -> Examples:
        key = {"part": part, "autoencoder steps": config.autoencoder.steps, "count": len(pictures)}
        return Examples(pictures, CodeTable(pictures, first, cache, key), bool(classes), empty)

    def draw(on_step: OnStep) -> Tensor:
        labels = torch.arange(64) % max(len(classes), 1)
        cond = {"vector": one_hot(labels, len(classes)).to(setting.device)} if classes else {}
        return model.sample(64, cond, noise=SeedNoise(range(64)), on_step=on_step)

    condition = LabelCondition(len(classes)) if classes else unconditional
    dims = facts.channels * facts.size**2 if config.autoencoder.likelihood == "logistic" else None
    return fit_pictures(
        config,
        setting,
        run,
        CodeLikelihood(net, condition, dims),
        Sets(examples(source.training, "training", config.empty), examples(source.held_out, "held out", 0.0)),
        draw=draw,
        updates=Updates(Optim(lr=config.lr, warmup=config.warmup, weight_decay=0.01), Ema(ConstantDecay(config.ema))),
    )


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained; prompts are class names, or empty."""
    classes = classes_of(config.conditional, Facts.of(run))
    first, net = stages_of(config, run, device)
    parts = {"autoencoder": first.autoencoder, "prior": net}
    system = picture_system(joined(first, net), parts, run, "vq_vae", device, classes=classes)
    h, w = first.codes.grid
    return replace(system, defaults=Sampling(steps=h * w, guidance_scale=1.0))


def stages_of(config: Config, run: Run, device: torch.device) -> tuple[VQVAE, CodePrior]:
    """Both stages of a run of this recipe, ready to use."""
    facts = Facts.of(run)
    first = bind_tokens(config.autoencoder, facts, run, device)
    net = prior(config, first.codes.size, first.codes.grid, classes_of(config.conditional, facts))
    restored(net, run, "prior", device)
    return first, net


def measure(config: Config, run: Run, device: torch.device) -> Measure:
    """The bound of log p of a picture (given its class), and its bits where pixels are told exactly."""
    facts = Facts.of(run)
    classes = classes_of(config.conditional, facts)
    model = joined(*stages_of(config, run, device))
    condition = LabelCondition(len(classes)) if classes else unconditional
    discrete = config.autoencoder.likelihood == "logistic"
    bits = facts.channels * facts.size**2 * math.log(2)

    def each(batch: Batch, draws: int, seed: int) -> dict[str, Tensor]:
        told = model.measure(batch, condition, seed)
        return {**told, **({"bits_per_dim": -told["log_likelihood"] / bits} if discrete else {})}

    return Measure(each, "lower bound of log p in nats per picture (given its class), and the bits of an 8-bit value")
