"""What the recipes of normalising flows share: dequantised pictures, a start from data, averaged weights, previews.

Numbers in metrics.jsonl: `bits_per_dim` of 8-bit pictures; `_nats`, log p of pictures scaled to [0, 1];
`_inverse_error` and `_sample_overflow`, the health of the inverse on held-out pictures; `trouble`, draws that overflow,
with advice. A conditional flow learns a place among the latents for each class: `bits_per_dim` are then those of
pictures whose class is known, `class` what keeps classes apart, `_right` the share of pictures whose class is the
likeliest by Bayes' rule. Book: chapter 3.

    hvis train glow --run runs/glow --data mnist --conditional
    hvis generate 3 --model runs/glow
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar, final

import torch
from torch import Tensor

from huggingvis.core.noise import BatchNoise, SeedNoise
from huggingvis.core.protocols import Measure, OnStep
from huggingvis.core.system import System
from huggingvis.nets.flows.class_prior import ClassPrior
from huggingvis.nets.flows.model import Flow
from huggingvis.objectives.likelihood import BITS, MaximumLikelihood, OfClass, dequantise, measure_density
from huggingvis.recipes.alarms import name_trouble
from huggingvis.recipes.classes import each_class
from huggingvis.recipes.denoisers import classes_of
from huggingvis.recipes.picture_training import (
    PictureTraining,
    Updates,
    begin,
    fit_pictures,
    open_pictures,
    picture_system,
    restored,
)
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts, Source
from huggingvis.train.callbacks import TrainStep
from huggingvis.train.ema import ConstantDecay, Ema
from huggingvis.train.optim import Cosine, Optim
from huggingvis.train.run import Run

FIRST_BATCH = 256
"""Pictures from which activation norm starts, at least."""
DRAWS = 64
"""Draws in which overflow is looked for."""


@dataclass(frozen=True)
class FlowTraining(PictureTraining):
    """Numbers of a flow's training.

    Attributes:
        temperature: what latents are multiplied by when pictures are drawn; 1 draws from the density itself.
        warmup: steps over which the learning rate rises; it falls to zero along a cosine by the last step.
        weight_decay: decoupled decay of matrices and kernels.
        muon: matrices and kernels move by Muon, which gains more from a step and takes longer over it.
        ema: decay of the averaged weights that are validated and drawn from.
        conditional: learn the data's classes.
        class_weight: of -log2 p(class|picture) beside bits per dimension.
    """

    temperature: float = 1.0
    warmup: int = 200
    weight_decay: float = 0.0
    muon: bool = False
    ema: float = 0.999
    conditional: bool = False
    class_weight: float = 0.01

    def classes(self, facts: Facts) -> tuple[str, ...]:
        """The classes that are learnt. Raises `UsageError` where they are asked for and the data have none."""
        return classes_of(self.conditional, facts)

    def updates(self) -> Updates:
        """How weights change and which are averaged."""
        optim = Optim(
            lr=self.lr,
            weight_decay=self.weight_decay,
            warmup=self.warmup,
            schedule=Cosine(self.steps, start=self.warmup),
            muon=self.muon,
        )
        return Updates(optim, Ema(ConstantDecay(self.ema)))


Numbers = TypeVar("Numbers", bound=FlowTraining)


@final
@dataclass(frozen=True)
class FlowRecipe(Generic[Numbers]):
    """The recipe called `name` of the flow that `network` makes with fresh weights: its `train`, `bind`, `measure`."""

    name: str
    network: Callable[[Numbers, Facts], Flow]

    def train(self, config: Numbers, setting: Setting) -> Run:
        """Train the flow in `setting`'s run folder."""
        source = open_pictures(config, classes=bool(config.conditional))
        flow = self.network(config, source.facts).to(setting.device)
        run = begin(setting, self.name, config, source)
        start_from_data(flow, source, config, setting.device)

        classes, prior = config.classes(source.facts), flow.prior
        shown = {"vector": each_class(len(classes), 8, setting.device)} if classes else {}
        seeds = [i % 8 for i in range(8 * len(classes))] or range(64)

        def draw(on_step: OnStep) -> Tensor:
            return flow.draw(len(seeds), SeedNoise(seeds), cond=shown)[0]

        of_class = OfClass(flow, prior, config.class_weight) if isinstance(prior, ClassPrior) else None
        objective = MaximumLikelihood(flow, watched=flow, of_class=of_class)
        watch = OverflowWatch(flow, config.sample_every)
        updates = config.updates()
        return fit_pictures(config, setting, run, objective, source, draw=draw, updates=updates, on_step=[watch])

    def bind(self, config: Numbers, run: Run, device: torch.device) -> System:
        """What a run trained: latents of the prior, or of the class a prompt names, brought back through the flow."""
        flow, classes = self.restored(config, run, device), config.classes(Facts.of(run))
        return picture_system(flow, {"flow": flow}, run, self.name, device, classes=classes)

    def measure(self, config: Numbers, run: Run, device: torch.device) -> Measure:
        """Bits per dimension of a run's flow, and its log-density as NICE tells it."""
        meaning = (
            f"{BITS}; bits_per_dim is then exact, and by more draws a tighter bound; log_density: the same in nats, of "
            "pictures scaled to [0, 1]"
        )
        return Measure(partial(measure_density, self.restored(config, run, device)), meaning)

    def restored(self, config: Numbers, run: Run, device: torch.device) -> Flow:
        """The flow that a run trained."""
        return restored(self.network(config, Facts.of(run)), run, "flow", device)


@final
@dataclass(frozen=True)
class OverflowWatch:
    """Says, every `every` steps, if draws of `flow` overflow on their way back; sheets show those as plain grey."""

    flow: Flow
    every: int

    def __call__(self, at: TrainStep) -> None:
        if not at.due(self.every):
            return
        with at.averaged():
            bad = self.flow.draw(DRAWS, BatchNoise(0))[1]
        if bad.any():
            name_trouble(at, f"Overflow: {self.flow.overflow(bad)} Go back to an earlier checkpoint if it grows.")


def start_from_data(flow: Flow, source: Source, config: FlowTraining, device: torch.device) -> None:
    """Sets activation norm by the first training pictures, the same ones in every process; a resumed run then finds
    its own numbers in its checkpoint."""
    count = min(len(source.training), max(config.batch, FIRST_BATCH))
    rng = torch.Generator(device).manual_seed(config.seed)
    flow.initialise(dequantise(source.training.batch(0, count)["image"].to(device), rng))
