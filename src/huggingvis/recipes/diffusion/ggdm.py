"""GGDM: few steps of a finished diffusion model, each as good for this model as gradients can make it.

Watson, Chan, Ho & Norouzi 2022, "Learning Fast Samplers for Diffusion Models by Differentiating Through Sample Quality"
(arXiv 2202.05830). The network stays as it is; what is trained are the numbers of a sampler of `calls` steps, DDIM's to
begin with, and the run folder keeps these. Generating from it takes them. Book: chapter 4, "Learned samplers".

    hvis train ggdm --run runs/five --data mnist --denoiser runs/digits --judge runs/classifier
    hvis generate 7 --model runs/five
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from huggingvis.core.diffusion import Diffusion
from huggingvis.core.errors import UsageError
from huggingvis.core.noise import SeedNoise
from huggingvis.core.protocols import OnStep
from huggingvis.core.request import Request
from huggingvis.core.shapes import widest
from huggingvis.core.system import System
from huggingvis.metrics.kid import kernel_distance
from huggingvis.objectives.sample_quality import Distance, SampleQuality
from huggingvis.recipes.judging import Looks, open_judge
from huggingvis.recipes.picture_training import Fitting, Updates, fit_pictures, restored
from huggingvis.recipes.pixel_diffusion import bind_denoiser
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts, View, open_source
from huggingvis.samplers.learned_steps import Coefficients, LearnedSteps
from huggingvis.train.optim import Optim
from huggingvis.train.run import Run

SYSTEM = {
    "name": "GGDM",
    "chapter": 4,
    "paper": "2202.05830",
    "files": ["samplers/learned_steps.py", "objectives/sample_quality.py"],
    "built": "tests/walks/test_learned_sampler.py::test_a_run_of_learned_steps_draws_by_them",
    "exact": "tests/oracle/test_learned_steps.py::test_a_kernel_distance_falls",
    "trained": None,
    "explained": None,
    "usable": None,
}
LEARNED = "learned"
"""The name of the sampler that a run knows, and of its schedule."""
Drawing = Callable[[Request], Diffusion]


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
        data: the model's training pictures, as in trainings.
        root: folder in which standard data sets lie or are downloaded to.
        batch: pictures a step that are drawn, and real ones that they are held against.
        samples: pictures of a sample grid.
    """

    denoiser: str = ""
    calls: int = 10
    schedule: str = "trailing"
    eta: float = 0.0
    judge: str = ""
    data: str = "mnist"
    root: str = "data"
    steps: int = 300
    lr: float = 5e-3
    sample_every: int = 100
    samples: int = 64


def usual(config: Config, system: System, drawing: Drawing) -> Diffusion:
    """The model by DDIM on the times of the learned steps. Raises `UsageError` for a schedule that there is not."""
    sampling = replace(system.defaults, sampler="ddim", schedule=config.schedule, steps=config.calls)
    return drawing(Request(sampling=sampling))


def fresh(config: Config, model: Diffusion) -> Coefficients:
    """DDIM's numbers. Raises `UsageError` for a share of fresh noise that is none."""
    if not 0 <= config.eta <= 1:
        raise UsageError(f"The share of fresh noise goes from 0 (none) to 1 (DDPM's); found eta = {config.eta:g}.")
    return Coefficients(model.process, model.grid(model.process.pace), config.eta)


def train(config: Config, setting: Setting) -> Run:
    """Fit the numbers in `setting`'s run folder."""
    if config.batch < 2:
        raise UsageError(f"A kernel distance is between sets of 2 pictures or more; found --batch {config.batch}.")
    torch.manual_seed(config.seed)
    facts = Facts.of(Run.open(config.denoiser)) if config.denoiser else None
    size, channels = (facts.size, facts.channels) if facts else (None, None)
    source = open_source(config.data, View(size, channels), root=config.root, seed=config.seed)
    system, drawing = bind_denoiser(config.denoiser, source.facts, setting.device)
    model = usual(config, system, drawing)
    numbers = fresh(config, model).to(widest(setting.device))
    objective = SampleQuality(model, numbers, system.conditioner([Request()]), distance(config, setting.device))
    run = setting.begin("ggdm", config)
    source.facts.keep(run)

    def draw(on_step: OnStep) -> Tensor:
        with torch.no_grad():
            return objective.draw(config.samples, SeedNoise(range(config.samples)), on_step)

    return fit_pictures(
        config, setting, run, objective, source, draw=draw, updates=Updates(Optim(lr=config.lr, weight_decay=0.0))
    )


def distance(config: Config, device: torch.device) -> Distance:
    """The kernel distance of KID between the features that samples are compared by."""
    seen = open_judge(Path(config.judge), Looks, "tell features", device).features if config.judge else _pixels
    return lambda drawn, real: kernel_distance(seen(drawn).double(), seen(real).double())


def _pixels(x: Tensor) -> Tensor:
    return x.flatten(1)


def bind(config: Config, run: Run, device: torch.device) -> System:
    """The diffusion model, which knows the sampler and the schedule `learned` besides its own."""
    system, drawing = bind_denoiser(config.denoiser, Facts.of(run), device)
    by_ddim = usual(config, system, drawing)
    numbers = restored(fresh(config, by_ddim), run, "numbers", torch.device("cpu"))

    def generator(request: Request) -> Diffusion:
        asked = request.sampling
        if LEARNED not in (asked.sampler, asked.schedule):
            return drawing(request)
        if (asked.sampler, asked.schedule, asked.steps) != (LEARNED, LEARNED, config.calls):
            raise UsageError(
                f"The learned sampler goes with its own schedule and its own number of steps: sampler {LEARNED}, "
                f"schedule {LEARNED}, steps {config.calls}; found {asked.sampler}, {asked.schedule}, {asked.steps}. "
                "For others name a sampler and a schedule that are not learned."
            )
        plain = replace(asked, sampler="ddim", schedule=config.schedule)
        return replace(drawing(replace(request, sampling=plain)), sampler=LearnedSteps(numbers))

    limits = system.limits
    return replace(
        system,
        spec=replace(system.spec, name=run.path.name, family="ggdm"),
        generator=generator,
        defaults=replace(system.defaults, sampler=LEARNED, schedule=LEARNED, steps=config.calls),
        limits=replace(limits, samplers=(*limits.samplers, LEARNED), schedules=(*limits.schedules, LEARNED)),
    )
