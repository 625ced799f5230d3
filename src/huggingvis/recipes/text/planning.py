"""A planner: from what a trained text encoder reads in a sentence to a place for each thing it speaks of.

Causal maximum likelihood of boxes given the encoder's tokens (systems.planner; objectives.code_prior), on captions of
the synthetic world: no pictures are needed. Kinds and colours are read by the probes that the encoder was taught with.
23 minutes on one core of an AMD EPYC: 5.5 nats a plan, stated relations right in 93 of 100 plans.
Book: chapter 5, "Plan, then draw".

    hvis train planning --run runs/planning --reading runs/reading
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch import nn

from huggingvis.checkpoints.assign import assign
from huggingvis.core.config import from_dict
from huggingvis.core.errors import FileProblem
from huggingvis.core.protocols import Batch, Cond
from huggingvis.data.compose import Mix
from huggingvis.data.sprites import COLOURS, objects_v1
from huggingvis.data.world import World
from huggingvis.data.worldset import WorldSet
from huggingvis.nets.plan_map import Plan
from huggingvis.nets.text_tower import TextTower, TextTowerConfig
from huggingvis.objectives.code_prior import CodeLikelihood
from huggingvis.objectives.reading import sorted_things
from huggingvis.recipes.setting import Setting, precision
from huggingvis.recipes.text.reading import Captions
from huggingvis.recipes.text_encoders import load_reader, place
from huggingvis.runtime.attention import choose
from huggingvis.systems import tiny
from huggingvis.systems.packaged import is_model
from huggingvis.systems.planner import Planner, PlannerConfig, codes_of, prior_of, told
from huggingvis.train.ema import ConstantDecay, Ema
from huggingvis.train.fit import fit
from huggingvis.train.optim import Cosine, Optim
from huggingvis.train.run import Run
from huggingvis.train.settings import FitSettings, Validation

MIX = Mix(single=0.08, relation=0.5, pair=0.08, inside=0.06, behind=0.08, three=0.1, count=0.1)
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
        steps: optimiser steps.
        batch: captions a step.
        lr: peak learning rate.
        precision: bf16 or fp32.
        seed: of the weights and of every draw.
    """

    reading: str
    size: int = 64
    layouts: int = 200_000
    lattice: int | None = 8
    dim: int = 128
    depth: int = 4
    steps: int = 5000
    batch: int = 128
    lr: float = 2e-3
    precision: str = "bf16"
    seed: int = 0


@final
class Plans:
    """`Batches` of captions, `ids` [B, L], and of the boxes left open, `codes` [B, S, 4] in the reader's order."""

    def __init__(self, captions: Captions, places: int):
        self.captions, self.places = captions, places

    def batch(self, index: int, size: int) -> Batch:
        batch = self.captions.batch(index, size)
        plan = Plan(*sorted_things(batch["kinds"], batch["colours"], batch["boxes"]))
        return {"ids": batch["ids"], "codes": codes_of(plan, self.places)}


@final
class Told(nn.Module):
    """Token ids -> what a frozen text encoder tells the planner."""

    def __init__(self, tower: TextTower):
        super().__init__()
        self.tower = tower.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, batch: Batch) -> Cond:
        tokens, mask, _ = self.tower(batch["ids"])
        return told(tokens, mask, self.tower.config.slots)


def train(config: Config, setting: Setting) -> Run:
    """Train the planner's boxes in `setting`'s run folder."""
    tokenizer, tower = load_reader(place(config.reading))
    run = setting.begin("planning", config)
    sizes = sizes_of(config, tower.config)

    def plans(split: str, count: int) -> Plans:
        world = World(size=config.size, split=split, seed=config.seed, lattice=config.lattice, mix=MIX)
        return Plans(Captions(WorldSet(world, count, pictures=False), tokenizer, 0.0, 0.0), sizes.places)

    asked = precision(config.precision)
    torch.manual_seed(config.seed)  # what was loaded has drawn numbers
    with choose(setting.device, asked.autocast or torch.float32, training=True):
        return fit(
            CodeLikelihood(prior_of(sizes), Told(tower)).to(setting.device),
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
    reading = place(config.reading)
    planner = Planner(sizes_of(config, load_reader(reading)[1].config))
    assign(planner.prior, run.weights("prior"))
    heads = load_planner(reading).state_dict() if is_model(reading) else Run.open(reading).weights("probes")
    for name, head in (("kind", planner.kind), ("colour", planner.colour)):
        assign(head, {key: heads[f"{name}.{key}"] for key in head.state_dict()})
    return planner
