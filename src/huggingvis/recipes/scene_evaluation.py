"""How well a text-to-image system draws what a sentence says, measured on the synthetic world.

Prompts are test layouts: each of several things holds a combination that training never saw, their vocabulary drawn
uniformly; the frozen judge looks at the pictures. Every figure stands between its floor (the same pictures against
another layout's sentence) and its ceiling (true renders passed through the system's own autoencoder).
Book: chapter 9, "Judges".
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from huggingvis.core.layout import Layout
from huggingvis.core.media import Picture
from huggingvis.core.noise import SeedNoise
from huggingvis.core.protocols import Encodes
from huggingvis.core.request import Prompt, Request, Sampling
from huggingvis.core.system import System
from huggingvis.data.world import CATEGORIES, World
from huggingvis.data.worldset import to_tensor
from huggingvis.metrics.bootstrap import Interval
from huggingvis.metrics.frechet import frechet_interval
from huggingvis.metrics.scene_accuracy import SceneAccuracy, scene_accuracy
from huggingvis.systems.judges.world import WorldJudge

LANGUAGES = ("en", "zh")


@dataclass(frozen=True)
class SceneScore:
    """Accuracy of the model, its floor and its ceiling; `frechet`: distances in the judge's features, with a floor."""

    model: SceneAccuracy
    floor: SceneAccuracy
    ceiling: SceneAccuracy
    frechet: dict[str, Interval]
    seed: int
    prompts: int


@torch.inference_mode()
def draw(
    system: System,
    prompts: Sequence[str],
    sampling: Sampling,
    chunk: int = 64,
    on_chunk: Callable[[int], None] | None = None,
) -> np.ndarray:
    """One picture for each prompt, uint8 [N, H, W, 3]; picture i from seed + i."""
    out = []
    for start in range(0, len(prompts), chunk):
        part = prompts[start : start + chunk]
        requests = [Request(Prompt(text), sampling=sampling) for text in part]
        cond = system.conditioner.prepare(system.conditioner(requests))
        noise = SeedNoise([sampling.seed + start + i for i in range(len(part))])
        z = system.generator(requests[0]).sample(len(part), cond, noise=noise)
        out += [Picture.from_signal(x).pixels for x in system.codec.decode(z).float().cpu().numpy()]
        if on_chunk is not None:
            on_chunk(len(out))
    return np.stack(out)


@torch.inference_mode()
def passed(system: System, pictures: np.ndarray, chunk: int = 64) -> np.ndarray:
    """Pictures through the system's autoencoder and back."""
    codec = system.codec
    assert isinstance(codec, Encodes)
    out = []
    for start in range(0, len(pictures), chunk):
        x = to_tensor(pictures[start : start + chunk]).to(system.device)
        out += [Picture.from_signal(y).pixels for y in codec.decode(codec.encode(x)).float().cpu().numpy()]
    return np.stack(out)


def layouts_of(world: World, total: int, seed: int) -> list[Layout]:
    """About `total` test layouts, the same number of each category."""
    each = max(1, total // len(CATEGORIES))
    return [layout for category in CATEGORIES for layout in world.prompts(category, each, seed)]


def ceiling_of(system: System, judge: WorldJudge, world: World, layouts: list[Layout]) -> SceneAccuracy:
    """The judge on true renders passed through the autoencoder."""
    through = passed(system, np.stack([world.image(layout) for layout in layouts]))
    return scene_accuracy(judge, {"en": through, "zh": through}, layouts)


def evaluate(
    system: System,
    judge: WorldJudge,
    *,
    total: int = 1000,
    seed: int = 0,
    sampling: Sampling | None = None,
    on_chunk: Callable[[int], None] | None = None,
) -> SceneScore:
    """Score `system` on `total` prompts in each language, on the same layouts and the same noise."""
    world = World(size=system.spec.size[0], split="test")
    layouts = layouts_of(world, total, seed)
    numbers = replace(sampling or system.defaults, seed=seed)
    pictures = {
        code: draw(system, [world.caption(layout, code, 0) for layout in layouts], numbers, on_chunk=on_chunk)
        for code in LANGUAGES
    }
    shuffled = layouts[:]
    random.Random(seed).shuffle(shuffled)
    truth = np.stack([world.image(layout) for layout in layouts])
    again = np.stack([world.image(world.layout(i)) for i in range(len(layouts))])
    real, made, other = (judge.features(to_tensor(images)) for images in (truth, pictures["en"], again))  # [N, D]
    return SceneScore(
        model=scene_accuracy(judge, pictures, layouts),
        floor=scene_accuracy(judge, pictures, shuffled),
        ceiling=ceiling_of(system, judge, world, layouts),
        frechet={"model": frechet_interval(made, real), "floor": frechet_interval(other, real)},
        seed=seed,
        prompts=len(layouts),
    )
