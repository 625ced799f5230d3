"""GGDM: few steps of a finished diffusion model, each as good for this model as gradients can make it.

Watson, Chan, Ho & Norouzi 2022, "Learning Fast Samplers for Diffusion Models by Differentiating Through Sample Quality"
(arXiv 2202.05830). The network stays as it is; what is trained are the numbers of a sampler of `calls` steps, DDIM's to
begin with, and the run folder keeps these. Generating from it takes them. Book: chapter 4, "Learned samplers".

    hvis train ggdm --run runs/five --denoiser runs/digits --judge runs/classifier --calls 5
    hvis generate --model runs/five
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from huggingvis.core.diffusion import Diffusion
from huggingvis.core.errors import UsageError
from huggingvis.core.noise import SeedNoise
from huggingvis.core.protocols import Batch, Cond, OnStep
from huggingvis.core.request import Prompt, Request
from huggingvis.core.shapes import double, widest
from huggingvis.core.system import System
from huggingvis.guidance.classifier import Classifier
from huggingvis.metrics.features import check_comparable, pixels
from huggingvis.metrics.kid import kernel_distance
from huggingvis.objectives.sample_quality import Distance, SampleQuality
from huggingvis.recipes.judging import open_features
from huggingvis.recipes.picture_training import Fitting, Updates, fit_pictures, restored
from huggingvis.recipes.pixel_diffusion import Drawing, bind_denoiser, data_of, pictures_of
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts
from huggingvis.samplers.learned_steps import Coefficients, LearnedSteps
from huggingvis.samplers.names import OF_MODELS
from huggingvis.train.optim import Optim
from huggingvis.train.run import Run

SYSTEM = {
    "name": "GGDM",
    "chapter": 4,
    "paper": "2202.05830",
    "files": ["samplers/learned_steps.py", "objectives/sample_quality.py"],
    "built": "tests/walks/test_learned_sampler.py::test_a_run_of_learned_steps_draws_by_them",
    "exact": [
        "tests/oracle/test_learned_steps.py::test_fresh_numbers_are_ddims",
        "tests/oracle/test_learned_steps.py::test_gradients_of_the_chain",
        "tests/oracle/test_learned_steps.py::test_a_kernel_distance_falls",
    ],
    "trained": "benchmarks/trained/ggdm.json",
    "explained": None,
    "usable": None,
}
(LEARNED,) = OF_MODELS
"""The name of the sampler that a run knows, and of its schedule."""


@dataclass(frozen=True)
class Config(Fitting):
    """Numbers of the training.

    Attributes:
        denoiser: run folder of the diffusion model.
        calls: steps of the sampler.
        schedule: where they are; they do not move.
        eta: share of fresh noise that DDIM begins with; 0 for a sampler that draws none.
        judge: whose features tell how far samples are from data, a weights file or the run of a classifier; none: the
            pixels themselves. Do not score by the same one.
        data: pictures, as in trainings; empty: those that the model was trained on.
        root: folder in which standard data sets lie or are downloaded to; empty: the model's own.
        batch: pictures a step that are drawn, and real ones that they are held against.
        samples: pictures of a sample grid.
    """

    denoiser: str = ""
    calls: int = 10
    schedule: str = "trailing"
    eta: float = 0.0
    judge: str = ""
    data: str = ""
    root: str = ""
    steps: int = 300
    lr: float = 5e-3
    sample_every: int = 100
    samples: int = 64


def usual(config: Config, system: System, drawing: Drawing) -> Diffusion:
    """The model by DDIM on the times of the learned steps. Raises `UsageError` for times that rise, and for a model
    that the steps cannot be trained through."""
    sampling = replace(system.defaults, sampler="ddim", schedule=config.schedule, steps=config.calls)
    model = drawing(Request(sampling=sampling))
    if any(isinstance(guide, Classifier) for guide in model.guidance):
        raise UsageError(
            f"{config.denoiser} is guided by a classifier, whose gradient the steps cannot be trained through. Name "
            "the model that it guides with --denoiser."
        )
    if bool((model.grid(model.process.pace).times.diff() > 0).any()):
        raise UsageError(
            f"Learned steps lead from noise to data, and --schedule {config.schedule} goes back on its way. "
            "Name another."
        )
    return model


def fresh(config: Config, model: Diffusion) -> Coefficients:
    """DDIM's numbers. Raises `UsageError` for a share of fresh noise that is none."""
    if not 0 <= config.eta <= 1:
        raise UsageError(f"The share of fresh noise, --eta, goes from 0 (none) to 1 (DDPM's); found {config.eta:g}.")
    return Coefficients(model.process, model.grid(model.process.pace), config.eta)


def train(config: Config, setting: Setting) -> Run:
    """Fit the numbers in `setting`'s run folder."""
    torch.manual_seed(config.seed)
    data, root = data_of(config.denoiser, config.data, config.root)
    config = replace(config, data=data, root=root)
    source = pictures_of(config.denoiser, config.data, config.root, seed=config.seed)
    system, drawing = bind_denoiser(config.denoiser, source.facts, setting.device)
    classes = tuple(system.spec.card.get("classes", ()))
    if classes:
        source = pictures_of(config.denoiser, config.data, config.root, seed=config.seed, classes=True)
    told = Told.of(system, classes, source.facts)
    model = usual(config, system, drawing)
    numbers = fresh(config, model).to(widest(setting.device))
    first = source.training.batch(0, config.batch)["image"].to(setting.device)
    objective = SampleQuality(model, numbers, told, distance(config, first))
    run = setting.begin("ggdm", config)
    source.facts.keep(run)

    def draw(on_step: OnStep) -> Tensor:
        n = config.samples
        with torch.no_grad():
            return objective.model.sample(n, told.each(n), noise=SeedNoise(range(n)), on_step=on_step)

    return fit_pictures(
        config, setting, run, objective, source, draw=draw, updates=Updates(Optim(lr=config.lr, weight_decay=0.0))
    )


@final
@dataclass(frozen=True)
class Told:
    """What the model is told of pictures: their class where it knows classes. `known`: of each class, [K, ...]."""

    known: Cond

    @classmethod
    def of(cls, system: System, classes: tuple[str, ...], facts: Facts) -> Told:
        """Raises `UsageError` for pictures of other classes than the model's."""
        if classes and classes != tuple(facts.classes):
            raise UsageError(
                f"The model knows the classes {', '.join(classes)}, but the pictures of {facts.data!r} are of "
                f"{', '.join(facts.classes) or 'none'}. Name the data that it was trained on with --data."
            )
        return cls(system.conditioner([Request(Prompt(name)) for name in classes or ("",)]))

    def __call__(self, batch: Batch) -> Cond:
        label = batch.get("label", torch.zeros(len(batch["image"]), dtype=torch.long))
        return {name: value[label.to(value.device)] for name, value in self.known.items()}

    def each(self, n: int) -> Cond:
        """Of `n` pictures, one class after the other."""
        return {name: value[torch.arange(n, device=value.device) % len(value)] for name, value in self.known.items()}


def distance(config: Config, pictures: Tensor) -> Distance:
    """The kernel distance of KID between the features that samples are compared by.

    Raises `UsageError` where `pictures` [B, C, H, W] cannot be looked at or are too few to be compared.
    """
    seen = open_features(Path(config.judge), pictures.device) if config.judge else pixels
    found = seen(pictures)
    check_comparable(found, found)
    return lambda drawn, real: kernel_distance(double(seen(drawn)), double(seen(real)))


def bind(config: Config, run: Run, device: torch.device) -> System:
    """The diffusion model, which knows the sampler `learned` besides its own, and by the same name the schedule that it
    was learned on."""
    system, drawing = bind_denoiser(config.denoiser, Facts.of(run), device)
    by_ddim = usual(config, system, drawing)
    numbers = restored(fresh(config, by_ddim), run, "numbers", torch.device("cpu"))

    def generator(request: Request) -> Diffusion:
        asked = request.sampling
        grid = config.schedule if asked.schedule == LEARNED else asked.schedule
        if asked.sampler != LEARNED:
            return drawing(replace(request, sampling=replace(asked, schedule=grid)))
        if (asked.schedule, asked.steps) != (LEARNED, config.calls):
            raise UsageError(
                f"The learned sampler goes with its own schedule and its own number of steps: sampler {LEARNED}, "
                f"schedule {LEARNED}, steps {config.calls}; found {asked.sampler}, {asked.schedule}, {asked.steps}. "
                "For others name another sampler."
            )
        if asked.eta:
            raise UsageError(
                f"How much fresh noise the learned steps draw was trained (eta {config.eta:g}); leave eta out."
            )
        plain = replace(asked, sampler="ddim", schedule=grid)
        return replace(drawing(replace(request, sampling=plain)), sampler=LearnedSteps(numbers))

    limits = system.limits
    return replace(
        system,
        spec=replace(system.spec, name=run.path.name, family="ggdm"),
        parts={**system.parts, "learned_steps": numbers},
        generator=generator,
        defaults=replace(system.defaults, sampler=LEARNED, schedule=LEARNED, steps=config.calls),
        limits=replace(limits, samplers=(*limits.samplers, LEARNED), schedules=(*limits.schedules, LEARNED)),
    )
