"""A bilingual text encoder taught to read captions of the synthetic world.

Slot tokens are probed for things, places and background (objectives.reading). A minute or two on two cores.
Book: chapter 5.

    hvis train reading --run runs/reading
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from huggingvis.codecs.text import TextTokenizer
from huggingvis.data.draws import stable_hash
from huggingvis.data.sprites import COLOURS
from huggingvis.data.world import World
from huggingvis.data.worldset import CAPTION_VARIANTS, Mapped, WorldSet
from huggingvis.nets.text_tower import TextTower, TextTowerConfig
from huggingvis.objectives.reading import Reading
from huggingvis.recipes.setting import Setting, precision
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
        precision: bf16 or fp32.
        seed: of the weights and of every draw.
    """

    size: int = 64
    layouts: int = 100_000
    dim: int = 192
    depth: int = 4
    steps: int = 4000
    batch: int = 256
    lr: float = 1e-3
    empty: float = 0.02
    precision: str = "bf16"
    seed: int = 0


def learn_tokenizer(world: World, texts: int = 20_000) -> TextTokenizer:
    """Byte pairs of `texts` captions, half of them in each language, and of every name the world knows."""
    captions = (
        world.caption(world.layout(-1 - i), ("en", "zh")[i % 2], stable_hash("variant", i) % CAPTION_VARIANTS)
        for i in range(texts)
    )
    names = [name for s in world.sprites.ids for code in ("en", "zh") for name in world.sprites[s].names(code)]
    return TextTokenizer.learn([*captions, *names], vocabulary=1600)


def background_of(data: WorldSet, numbers: list[int]) -> torch.Tensor:
    """First background colour of each layout [B, 3] in [0, 1]."""
    return torch.tensor([data.layouts[n].background.colours[0] for n in numbers]) / 255


def parted(keys: tuple[str, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """For each concept, then for none: the number of its sprite and that of its colour, -1 for none."""
    parts = [key.rpartition(" ") for key in keys]
    kinds, colours = list(dict.fromkeys(kind for _, _, kind in parts)), list(COLOURS)
    kind = [kinds.index(name) for _, _, name in parts]
    return torch.tensor([*kind, -1]), torch.tensor([*(colours.index(c) if c else -1 for c, _, _ in parts), -1])


def tokenised(data: WorldSet, tokenizer: TextTokenizer, empty: float) -> Mapped:
    """Batches as `Reading` wants them, with the share `empty` of the captions left out, always the same ones."""
    kinds, colours = parted(data.keys)

    def change(batch: dict, index: int) -> dict:
        texts = [
            "" if stable_hash("empty", index, i) % 1000 < 1000 * empty else text
            for i, text in enumerate(batch["captions"])
        ]
        return {
            "ids": tokenizer.ids(texts),
            "boxes": batch["boxes"],
            "kinds": kinds[batch["classes"]],
            "colours": colours[batch["classes"]],
            "ground": background_of(data, batch["numbers"]),
        }

    return Mapped(data, change)


def train(config: Config, setting: Setting) -> Run:
    """Train the encoder in `setting`'s run folder; its tokenizer lies beside the checkpoints."""
    torch.manual_seed(config.seed)
    world = World(size=config.size, split="train", seed=config.seed)
    run = setting.begin("reading", config)
    path = run.path / "tokenizer.json"
    tokenizer = TextTokenizer.load(path) if path.exists() else learn_tokenizer(world)
    tokenizer.save(path)
    tower = TextTower(TextTowerConfig(vocabulary=tokenizer.vocabulary, dim=config.dim, depth=config.depth))
    test = World(size=config.size, split="test", seed=config.seed)
    held_out = tokenised(WorldSet(test, 1024, pictures=False), tokenizer, 0.0)
    return fit(
        Reading(tower, len(world.sprites), len(COLOURS)).to(setting.device),
        tokenised(WorldSet(world, config.layouts, pictures=False), tokenizer, config.empty),
        run,
        optim=Optim(config.lr, (0.9, 0.98), weight_decay=0.02, warmup=200, schedule=Cosine(config.steps, 0.02)),
        steps=config.steps,
        batch_size=config.batch,
        ema=Ema(ConstantDecay(0.998), nets=("text",)),
        settings=FitSettings(
            seed=config.seed,
            precision=precision(config.precision),
            validation=Validation(held_out, every=500, batches=4),
            progress=setting.progress,
        ),
    )
