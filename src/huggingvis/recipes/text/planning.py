"""A planner: from what a trained text encoder makes of a sentence to a kind, a colour and a place for each thing in it.

Maximum likelihood of plans given the encoder's tokens (systems.planner; objectives.planning), on captions of the
synthetic world: no pictures are needed, so half of the captions speak of things in any colours, as those that the
encoder learnt to read from. Book: chapter 5, "Plan, then draw".

    hvis train planning --run runs/planning --reading runs/reading

The planner that ships took three trainings on an AMD EPYC (benchmarks/trained/tiny-planner-0, -1 and tiny-planner): of
the boxes alone 3,500 steps in 23 minutes, then of all 1,200 and 1,500 more in 42 minutes of a shared core. Kinds and
colours of all things are right for 980 of 1,002 English test sentences and 977 of the same in Chinese; stated relations
hold in 163 of 167 plans in either language.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch

from huggingvis.checkpoints.assign import assign
from huggingvis.core.config import from_dict
from huggingvis.core.errors import FileProblem
from huggingvis.core.protocols import Batch
from huggingvis.data.compose import Mix
from huggingvis.data.sprites import COLOURS, objects_v1
from huggingvis.data.world import World
from huggingvis.data.worldset import WorldSet
from huggingvis.nets.plan_map import Plan, codes_of
from huggingvis.nets.text_tower import TextTowerConfig
from huggingvis.objectives.planning import Planning
from huggingvis.objectives.reading import sorted_things
from huggingvis.recipes.setting import Setting, precision
from huggingvis.recipes.text.reading import Captions
from huggingvis.recipes.text_encoders import load_reader, place
from huggingvis.runtime.attention import for_training
from huggingvis.systems import tiny
from huggingvis.systems.packaged import is_model
from huggingvis.systems.planner import Planner, PlannerConfig, prior_of, reader_of
from huggingvis.train.ema import ConstantDecay, Ema
from huggingvis.train.fit import fit
from huggingvis.train.optim import Cosine, Optim
from huggingvis.train.run import Run
from huggingvis.train.settings import FitSettings, Validation

MIX = Mix(single=0.06, relation=0.34, pair=0.24, inside=0.06, behind=0.06, three=0.16, count=0.08)
"""Where one thing stands is soon learnt; what "left of" says of two takes most of the training."""


@dataclass(frozen=True)
class Config:
    """Numbers of the training.

    Attributes:
        reading: run folder of the text encoder, or a model folder or packaged model that has one.
        size: side of the pictures the captions describe.
        layouts: layouts described, cycled through with a new caption each time.
        lattice: as that of the pictures the plans are for (recipe text_to_image).
        dim: width of the planner.
        depth: its blocks.
        tint: share of captions that are `tinted`.
        steps: optimiser steps.
        batch: captions a step.
        lr: peak learning rate.
        precision: bf16, fp32, or auto: the first where the device is faster in it.
        seed: of the weights and of every draw.
        start: run folder of a planner to go on from; empty for fresh weights.
    """

    reading: str
    size: int = 64
    layouts: int = 200_000
    lattice: int | None = 8
    dim: int = 128
    depth: int = 4
    tint: float = 0.5
    steps: int = 5000
    batch: int = 128
    lr: float = 2e-3
    precision: str = "auto"
    seed: int = 0
    start: str = ""


@final
class Plans:
    """`Batches` of captions, `ids` [B, L], and of what they speak of, `kinds`, `colours` [B, S], `codes` [B, S, 4]."""

    def __init__(self, captions: Captions, places: int):
        self.captions, self.places = captions, places

    def batch(self, index: int, size: int) -> Batch:
        batch = self.captions.batch(index, size)
        plan = Plan(*sorted_things(batch["kinds"], batch["colours"], batch["boxes"]))
        return {"ids": batch["ids"], "kinds": plan.kinds, "colours": plan.colours, "codes": codes_of(plan, self.places)}


def train(config: Config, setting: Setting) -> Run:
    """Train the planner in `setting`'s run folder."""
    tokenizer, tower = load_reader(place(config.reading))
    run = setting.begin("planning", config)
    sizes = sizes_of(config, tower.config)

    def plans(split: str, count: int) -> Plans:
        world = World(size=config.size, split=split, seed=config.seed, lattice=config.lattice, mix=MIX)
        return Plans(Captions(WorldSet(world, count, pictures=False), tokenizer, 0.0, config.tint), sizes.places)

    torch.manual_seed(config.seed)  # what was loaded has drawn numbers
    objective = Planning(reader_of(sizes), prior_of(sizes), tower)
    if config.start:
        before = Run.open(Path(config.start))
        for name, net in objective.nets().items():
            assign(net, before.weights(name))
    asked = precision(config.precision, setting.device)
    with for_training(setting.device, asked.autocast or torch.float32):
        return fit(
            objective.to(setting.device),
            plans("train", config.layouts),
            run,
            optim=Optim(config.lr, (0.9, 0.98), warmup=100, schedule=Cosine(config.steps, 0.02), muon=True),
            steps=config.steps,
            batch_size=config.batch,
            ema=Ema(ConstantDecay(0.998)),
            settings=FitSettings(
                seed=config.seed,
                precision=asked,
                validation=Validation(plans("test", 1024), every=500, batches=4),
                progress=setting.progress,
            ),
        )


def sizes_of(config: Config, text: TextTowerConfig) -> PlannerConfig:
    """Sizes of the planner of a run, whose text encoder has the sizes `text`."""
    return PlannerConfig(
        kinds=len(objects_v1()),
        colours=len(COLOURS),
        slots=text.slots,
        text_dim=text.dim,
        places=config.size,
        dim=config.dim,
        depth=config.depth,
    )


def load_planner(path: Path) -> Planner:
    """The planner of a run folder or of a model folder. Raises `FileProblem` for a model that has none."""
    if is_model(path):
        planner = tiny.load_parts(path, torch.device("cpu")).planner
        if planner is None:
            raise FileProblem(f"The model in {path} has no planner. Give a run folder of the recipe planning.")
        return planner
    run = Run.open(path)
    config = from_dict(Config, run.config["config"])
    planner = Planner(sizes_of(config, load_reader(place(config.reading))[1].config))
    assign(planner.reader, run.weights("reader"))
    assign(planner.prior, run.weights("prior"))
    return planner
