"""Reflow: a flow learns again from the pairs of noise and picture that a finished flow makes, and becomes straighter.

Liu, Gong & Liu 2022, "Flow Straight and Fast" (arXiv 2209.03003, Sec. 2): the pairs (z_1, z_0) of the teacher's ODE
take the place of pairs that know nothing of each other, the loss stays (Eq. 1). Teach the result once more for the next
stage. With `--euler_steps k` the loss is asked at the k times alone at which k Euler steps begin: the last stage's
distillation, for k = 1 the square of what one step is off by. The teacher may be any diffusion model of pictures; a
flow's weights are what the student starts from. Book: chapter 4, "Rectified flow".

    hvis train reflow --run runs/second --teacher runs/first --pairs 20000
    hvis train reflow --run runs/one-step --teacher runs/second --euler_steps 1
    hvis generate 7 --model runs/one-step
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from huggingvis.codecs.pixels import Pixels
from huggingvis.core.config import to_dict
from huggingvis.core.diffusion import NetDenoiser
from huggingvis.core.errors import UsageError
from huggingvis.core.process import Velocity
from huggingvis.core.protocols import Measure
from huggingvis.core.request import Request, Sampling
from huggingvis.core.system import System
from huggingvis.objectives.denoise import Knots
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.recipes.denoiser_training import DenoiserFitting, UNetSizes
from huggingvis.recipes.denoisers import Model, Shell, sizes_of, system
from huggingvis.recipes.flow_models import measure_flow, straight_noising
from huggingvis.recipes.flow_pairs import Law, Pairs, Teacher
from huggingvis.recipes.picture_training import Sets, Updates, fit_pictures, restored
from huggingvis.recipes.pixel_diffusion import bind_denoiser
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts
from huggingvis.train.run import Run


@dataclass(frozen=True)
class Config(DenoiserFitting):
    """Numbers of the training.

    Attributes:
        teacher: run folder of the flow, or other diffusion model, that makes the pairs.
        pairs: how many it makes; a twentieth of them, at most 1,024, is held out besides.
        sampler: that it makes them with, one that draws no noise on the way.
        teacher_steps: of that sampler.
        guidance_scale: of a teacher that knows classes, 1 for none.
        empty: share of pairs of no class, for classifier-free guidance.
        euler_steps: learn only the starts of so many Euler steps; 0 for all times.
        net: sizes of the U-Net; none: the teacher's.
        conditional: learn the classes; none: if the teacher has.
    """

    teacher: str = ""
    pairs: int = 20_000
    sampler: str = "heun-flow"
    teacher_steps: int = 25
    guidance_scale: float = 1.0
    empty: float = 0.1
    euler_steps: int = 0
    net: UNetSizes | None = None
    conditional: bool | None = None

    def __post_init__(self) -> None:
        if self.pairs < 1 or self.euler_steps < 0:
            raise UsageError(
                f"Reflow learns from at least one pair, at 0 (all times) or more Euler steps; found {self.pairs} pairs "
                f"and {self.euler_steps} steps."
            )


def model(config: Config, facts: Facts) -> Model:
    """The student with fresh weights; the numbers that were the teacher's are known by now."""
    noising = straight_noising()
    if config.euler_steps:
        usual = Sampling("euler", "uniform", config.euler_steps)
        noising = replace(noising, times=Knots(config.euler_steps), usual=usual)
    classes = facts.classes if config.conditional else ()
    return Model.of(config.net or UNetSizes(), noising, Velocity(), facts.shape, classes=classes, pixels=True)


def taught(config: Config, facts: Facts, setting: Setting) -> Teacher:
    """The finished run as a maker of pairs. Raises `UsageError` for one that its first noise alone does not decide."""
    found, drawing = bind_denoiser(config.teacher, facts, setting.device)
    asked = replace(
        found.defaults,
        sampler=config.sampler,
        steps=config.teacher_steps,
        guidance_scale=config.guidance_scale,
    )
    classes = len(found.spec.card.get("classes", ()))
    law = Law(facts.shape, classes, 1.0 if config.conditional is False else config.empty, config.seed)
    run = Run.open(config.teacher)
    newest = run.latest()
    name = {"run": run.config, "step": newest.step if newest else 0, "law": to_dict(law), "sampling": to_dict(asked)}
    return Teacher(drawing(Request(sampling=asked)), law, name)


def filled(config: Config, teacher: Teacher) -> Config:
    """The numbers with those that are the teacher's where none were asked for."""
    known = bool(teacher.law.classes) and config.conditional is not False
    return replace(config, conditional=known, net=config.net or sizes_of(teacher.net))


def begun(student: Model, teacher: Teacher) -> Model:
    """The student, with its teacher's weights if they mean the same: velocities of a straight flow, by equal nets."""
    believes = teacher.model.denoise
    if (
        isinstance(believes, NetDenoiser)
        and isinstance(believes.process, RectifiedFlow)
        and believes.prediction == student.prediction
        and teacher.net.config == student.net.config
    ):
        student.net.load_state_dict(teacher.net.state_dict())
    return student


def train(config: Config, setting: Setting) -> Run:
    """Make the pairs that are not there yet, and train the student on them, in `setting`'s run folder."""
    if not config.teacher:
        raise UsageError("Reflow learns from a finished flow: name its run folder with --teacher.")
    torch.manual_seed(config.seed)
    facts = Facts.of(Run.open(config.teacher))
    teacher = taught(config, facts, setting)
    config = filled(config, teacher)
    student = begun(model(config, facts), teacher)
    run = setting.begin("reflow", config)
    facts.keep(run)
    held = min(1024, -(-config.pairs // 20))
    sets = Sets(
        Pairs(teacher, np.arange(config.pairs), run, setting.progress),
        Pairs(teacher, config.pairs + np.arange(held), run, setting.progress),
    )
    return fit_pictures(
        config,
        setting,
        run,
        student.objective(),
        sets,
        draw=lambda on_step: student.preview(config.samples, config.euler_steps or config.sample_steps, on_step),
        updates=Updates(config.optim, config.averages),
    )


def bind(config: Config, run: Run, device: torch.device) -> System:
    """The student; prompts are class names, or empty."""
    facts = Facts.of(run)
    student = model(config, facts)
    restored(student.net, run, "net", device)
    return system(student, run.path.name, facts, Shell("reflow", Pixels()))


def measure(config: Config, run: Run, device: torch.device) -> Measure:
    """The loss of a run of this recipe, its bound, its density and its paths."""
    return measure_flow(model(config, Facts.of(run)), run, device)
