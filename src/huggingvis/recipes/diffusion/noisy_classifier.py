"""Classifier guidance: a diffusion model without classes, steered by a classifier of noisy pictures.

Dhariwal & Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis" (arXiv 2105.05233), Sec. 4. The classifier is
trained on the process of a finished run of a diffusion model in pixel space (ddpm, edm, improved_ddpm, ...); generating
from the classifier's run draws from that model, guided. The guidance scale is theirs: 0 is the plain model, 1 Bayes.
Book: chapter 4.

    hvis train ddpm --run runs/digits --data mnist --conditional false
    hvis train noisy_classifier --run runs/guided --data mnist --denoiser runs/digits
    hvis generate 7 --model runs/guided --guidance_scale 3
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from huggingvis.core.diffusion import Diffusion
from huggingvis.core.errors import UsageError
from huggingvis.core.noise import SeedNoise
from huggingvis.core.protocols import OnStep
from huggingvis.core.request import Request
from huggingvis.core.system import System
from huggingvis.guidance.classifier import Classifier
from huggingvis.nets.noisy_classifier import NoisyClassifier, NoisyClassifierConfig
from huggingvis.objectives.noisy_classification import NoisyClassification, NoisyLogits
from huggingvis.recipes.classes import each_class
from huggingvis.recipes.denoiser_training import LEVELS, UNetSizes
from huggingvis.recipes.denoisers import check_side
from huggingvis.recipes.picture_training import (
    PictureTraining,
    Updates,
    begin,
    fit_pictures,
    open_pictures,
    restored,
)
from huggingvis.recipes.pixel_diffusion import Drawing, bind_denoiser, data_of
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts
from huggingvis.systems.by_class import ClassConditioner
from huggingvis.train.optim import Optim
from huggingvis.train.run import Run

SYSTEM = {
    "name": "Classifier guidance",
    "chapter": 4,
    "paper": "2105.05233",
    "files": ["guidance/classifier.py", "objectives/noisy_classification.py", "nets/noisy_classifier.py"],
    "built": "tests/walks/test_diffusion_recipes.py::test_a_noisy_classifier_guides_a_plain_model",
    "exact": "tests/oracle/test_classifier_guidance.py::test_scale_one_is_the_conditional_score",
    "trained": "benchmarks/trained/noisy_classifier.json",
    "explained": None,
    "usable": None,
}


@dataclass(frozen=True)
class Config(PictureTraining):
    """Numbers of the training.

    Attributes:
        denoiser: run folder of the diffusion model that is guided; it knows no classes.
        data: pictures in classes, as in trainings; empty: those that the denoiser was trained on.
        root: folder in which standard data sets lie or are downloaded to; empty: the denoiser's own.
        net: sizes of the classifier: those of the way down of a U-Net.
        warmup: steps over which the learning rate rises.
        columns: pictures of each class in a sample grid.
        sample_steps: steps of a sample grid.
    """

    denoiser: str = ""
    data: str = ""
    root: str = ""
    net: UNetSizes = UNetSizes(channels=(32, 64, 64), blocks=1)
    steps: int = 10_000
    lr: float = 3e-4
    warmup: int = 200
    columns: int = 4
    sample_steps: int = 25


def filled(config: Config) -> Config:
    """The numbers with those of the denoiser's pictures where none were asked for."""
    data, root = data_of(config.denoiser, config.data, config.root)
    facts = Facts.of(Run.open(config.denoiser))
    size, channels = config.size or facts.size, config.channels or facts.channels
    return replace(config, data=data, root=root, size=size, channels=channels)


def classifier(config: Config, facts: Facts) -> NoisyClassifier:
    """The classifier with fresh weights. Raises `UsageError` for pictures without classes."""
    if not facts.classes:
        raise UsageError(
            f"The data {facts.data!r} have no classes to tell apart. Put each class's images into a sub-folder."
        )
    sizes = config.net
    check_side(facts.size, sizes.multiple)
    return NoisyClassifier(
        NoisyClassifierConfig(
            in_channels=facts.channels,
            classes=len(facts.classes),
            channels=sizes.channels,
            blocks=sizes.blocks,
            attention=sizes.attention,
            heads=sizes.heads,
            groups=sizes.groups,
            dropout=sizes.dropout,
            clock_scale=LEVELS,
        )
    )


def plain(config: Config, facts: Facts, device: torch.device) -> tuple[System, Drawing]:
    """The model that is guided, and how it samples.

    Raises `UsageError` for one that does not fit the pictures or knows classes itself.
    """
    system, drawing = bind_denoiser(config.denoiser, facts, device)
    if system.spec.card.get("classes"):
        raise UsageError(
            f"{config.denoiser} was trained with classes and guides itself by them. Train one with --conditional false."
        )
    return system, drawing


@final
@dataclass(frozen=True)
class Reader:
    """The classifier on pictures without noise: a judge of pictures that other models draw."""

    logits: NoisyLogits
    classes: tuple[str, ...]

    @torch.no_grad()
    def log_probs(self, x: Tensor) -> Tensor:
        """log p(class | picture), [B, K]."""
        return F.log_softmax(self.logits(*self._clean(x)).float(), dim=1)

    def features(self, x: Tensor) -> Tensor:
        """What the last layer sees of pictures, [B, C]."""
        return self.logits.features(*self._clean(x)).float()

    def _clean(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.to(next(self.logits.net.parameters()).device)
        return x, torch.zeros((), dtype=torch.float64, device=x.device)


def guided(base: System, drawing: Drawing, net: NoisyClassifier, facts: Facts) -> System:
    """`base` steered by `net`: prompts are class names, the guidance scale is s."""

    def generator(request: Request) -> Diffusion:
        model = drawing(request)
        asked = request.sampling
        logits = NoisyLogits(net, model.process)
        steer = Classifier(logits.log_prob, model.process, asked.guidance_scale, asked.guidance_interval)
        return replace(model, guidance=(steer, *model.guidance))

    multiple = max(base.spec.multiple, 2 ** (len(net.config.channels) - 1))
    card = {**base.spec.card, "classes": list(facts.classes)}
    return replace(
        base,
        spec=replace(base.spec, family="noisy_classifier", multiple=multiple, card=card),
        parts={**base.parts, "classifier": net},
        conditioner=ClassConditioner(facts.classes, base.device),
        generator=generator,
        defaults=replace(base.defaults, guidance_scale=2.0),
        limits=replace(base.limits, multiple=multiple),
    )


def train(config: Config, setting: Setting) -> Run:
    """Train the classifier in `setting`'s run folder."""
    config = filled(config)
    source = open_pictures(config, classes=True)
    net = classifier(config, source.facts)
    base, drawing = plain(config, source.facts, setting.device)
    run = begin(setting, "noisy_classifier", config, source)

    def draw(on_step: OnStep) -> Tensor:
        system = guided(base, drawing, net, source.facts)
        request = Request(sampling=replace(system.defaults, steps=config.sample_steps))
        vector = each_class(len(source.facts.classes), config.columns, setting.device)
        noise = SeedNoise(range(len(vector)))
        return system.generator(request).sample(len(vector), {"vector": vector}, noise=noise, on_step=on_step)

    return fit_pictures(
        config,
        setting,
        run,
        NoisyClassification(net, drawing(Request(sampling=base.defaults)).process),
        source,
        draw=draw,
        updates=Updates(Optim(lr=config.lr, warmup=config.warmup, weight_decay=0.05)),
    )


def judge(config: Config, run: Run, device: torch.device) -> Reader:
    """The classifier of a run by itself."""
    facts = Facts.of(run)
    base, drawing = plain(config, facts, device)
    net = restored(classifier(config, facts), run, "net", device)
    return Reader(NoisyLogits(net, drawing(Request(sampling=base.defaults)).process), facts.classes)


def bind(config: Config, run: Run, device: torch.device) -> System:
    """The diffusion model that the classifier was trained for, guided by it; prompts are class names, or empty."""
    facts = Facts.of(run)
    net = classifier(config, facts)
    restored(net, run, "net", device)
    system = guided(*plain(config, facts, device), net, facts)
    return replace(system, spec=replace(system.spec, name=run.path.name))
