"""A bilingual text encoder taught to read captions of the synthetic world.

Slot tokens are probed for things, places and background (objectives.reading). Half of the captions speak of things in
any colour, "a red dog", with no picture to them. An encoder that reads only of what pictures show learns which shape
comes in which colours, and takes a shape in a colour that pictures hold out (`data.world.held_out`) for another one:
it read half of such pairs wrongly. So words meet freely here, and it is the pictures that hold combinations out.
Minutes on two cores. Book: chapter 5.

    hvis train reading --run runs/reading
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch

from huggingvis.codecs.text import TextTokenizer
from huggingvis.core.layout import Layout
from huggingvis.core.protocols import Batch
from huggingvis.data.draws import among, stable_hash
from huggingvis.data.sprites import COLOURS
from huggingvis.data.tint import tinted
from huggingvis.data.world import World
from huggingvis.data.worldset import CAPTION_VARIANTS, WorldSet, said_of
from huggingvis.nets.text_tower import TextTower, TextTowerConfig
from huggingvis.objectives.reading import Reading
from huggingvis.recipes.setting import Setting, precision
from huggingvis.runtime.attention import for_training
from huggingvis.train.ema import ConstantDecay, Ema
from huggingvis.train.fit import fit
from huggingvis.train.optim import Cosine, Optim
from huggingvis.train.run import Run
from huggingvis.train.settings import FitSettings, Validation


@dataclass(frozen=True)
class Config:
    """Numbers of the training.

    Attributes:
        size: side of the pictures the captions describe.
        layouts: layouts described, cycled through with a new caption each time.
        dim: width of the encoder.
        depth: layers of the encoder.
        steps: optimiser steps.
        batch: captions a step.
        lr: peak learning rate.
        empty: share of captions replaced by the empty one.
        tint: share of captions that are `tinted`.
        precision: bf16, fp32, or auto: the first where the device is faster in it.
        seed: of the weights and of every draw.
        start: run folder of an encoder to go on from; empty for fresh weights.
    """

    size: int = 64
    layouts: int = 100_000
    dim: int = 192
    depth: int = 4
    steps: int = 4000
    batch: int = 256
    lr: float = 1e-3
    empty: float = 0.02
    tint: float = 0.5
    precision: str = "auto"
    seed: int = 0
    start: str = ""


def learn_tokenizer(world: World, texts: int = 20_000) -> TextTokenizer:
    """Byte pairs of `texts` captions, half of them in each language, and of every name the world knows."""
    captions = (
        world.caption(world.layout(-1 - i), ("en", "zh")[i % 2], stable_hash("variant", i) % CAPTION_VARIANTS)
        for i in range(texts)
    )
    names = [name for s in world.sprites.ids for code in ("en", "zh") for name in world.sprites[s].names(code)]
    return TextTokenizer.learn([*captions, *names], vocabulary=1600)


@final
class Captions:
    """`Batches` as `Reading` wants them, of captions of `data` drawn anew each time, half of them in each language.

    The shares `empty` of them are left out and `tint` of them `tinted`.
    """

    def __init__(self, data: WorldSet, tokenizer: TextTokenizer, empty: float, tint: float):
        self.data, self.tokenizer, self.empty, self.tint = data, tokenizer, empty, tint
        self.grounds = torch.tensor([layout.background.colours[0] for layout in data.layouts]) / 255  # [N, 3]

    def batch(self, index: int, size: int) -> Batch:
        numbers = range(index * size, (index + 1) * size)
        items = self.data.items(index, size)
        boxes, _, _ = self.data.truth
        layouts = [self._said(self.data.layouts[item], number) for item, number in zip(items, numbers, strict=True)]
        kinds, colours = said_of(self.data.world, layouts)
        silent = [among(self.empty, "empty", number) for number in numbers]
        captions = self.data.captions(index, size, self._said)
        texts = ["" if nothing else text for nothing, text in zip(silent, captions, strict=True)]
        ids, grounds = self.tokenizer.ids(texts), self.grounds[items]
        return {"ids": ids, "boxes": boxes[items], "kinds": kinds, "colours": colours, "ground": grounds}

    def _said(self, layout: Layout, number: int) -> Layout:
        return tinted(layout, number) if among(self.tint, "tinted", number) else layout


def train(config: Config, setting: Setting) -> Run:
    """Train the encoder in `setting`'s run folder; its tokenizer lies beside the checkpoints."""
    torch.manual_seed(config.seed)
    world = World(size=config.size, split="train", seed=config.seed)
    run = setting.begin("reading", config)
    path, before = run.path / "tokenizer.json", Run.open(Path(config.start)) if config.start else None
    if not path.exists():
        known = before.path / path.name if before else None
        (TextTokenizer.load(known) if known else learn_tokenizer(world)).save(path)
    tokenizer = TextTokenizer.load(path)
    tower = TextTower(TextTowerConfig(vocabulary=tokenizer.vocabulary, dim=config.dim, depth=config.depth))
    objective = Reading(tower, len(world.sprites), len(COLOURS))
    if before:
        for name, net in objective.nets().items():
            net.load_state_dict(before.weights(name))
    test = World(size=config.size, split="test", seed=config.seed)
    held_out = Captions(WorldSet(test, 1024), tokenizer, 0.0, 0.0)
    asked = precision(config.precision, setting.device)
    with for_training(setting.device, asked.autocast or torch.float32):
        return fit(
            objective.to(setting.device),
            Captions(WorldSet(world, config.layouts), tokenizer, config.empty, config.tint),
            run,
            optim=Optim(config.lr, (0.9, 0.98), weight_decay=0.02, warmup=200, schedule=Cosine(config.steps, 0.02)),
            steps=config.steps,
            batch_size=config.batch,
            ema=Ema(ConstantDecay(0.998), nets=("text",)),
            settings=FitSettings(
                seed=config.seed,
                precision=asked,
                validation=Validation(held_out, every=500, batches=4),
                progress=setting.progress,
            ),
        )
