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
from typing import final

import numpy as np
import torch

from huggingvis.core.errors import UsageError
from huggingvis.core.layout import Layout
from huggingvis.core.media import Picture
from huggingvis.core.protocols import Encodes
from huggingvis.core.request import Sampling
from huggingvis.core.system import System
from huggingvis.data.world import CATEGORIES, World
from huggingvis.data.worldset import to_tensor
from huggingvis.metrics.bootstrap import Interval
from huggingvis.metrics.frechet import frechet_interval
from huggingvis.metrics.scene_accuracy import SceneAccuracy, scene_accuracy
from huggingvis.metrics.scene_table import LEGEND, render_table, table_record
from huggingvis.recipes.drawing import drawn
from huggingvis.recipes.evaluation import Evaluation, Subject
from huggingvis.systems.judges.world import WorldJudge
from huggingvis.systems.judges.world import bind as bind_judge

LANGUAGES = ("en", "zh")


@dataclass(frozen=True)
class SceneScore:
    """Accuracy of the model, its floor and its ceiling.

    `frechet`: in the judge's features, how far from true pictures of other prompts the model's are, and true ones.
    """

    model: SceneAccuracy
    floor: SceneAccuracy
    ceiling: SceneAccuracy
    frechet: dict[str, Interval]
    seed: int
    prompts: int


def draw(
    system: System,
    prompts: Sequence[str],
    sampling: Sampling,
    chunk: int = 64,
    on_chunk: Callable[[int], None] | None = None,
) -> np.ndarray:
    """One picture for each prompt, uint8 [N, H, W, 3]; picture i from seed + i."""
    parts = drawn(system, prompts, sampling, chunk, on_chunk)
    return np.stack([Picture.from_signal(x).pixels for part in parts for x in part.numpy()])


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
    on_drawn: Callable[[int], None] = lambda done: None,
) -> SceneScore:
    """Score `system` on `total` prompts in each language, on the same layouts and the same noise.

    `on_drawn` hears how many pictures are drawn, of all languages together.
    """
    world = World(size=system.spec.size[0], split="test")
    layouts = layouts_of(world, total, seed)
    numbers = replace(sampling or system.defaults, seed=seed)
    pictures: dict[str, np.ndarray] = {}
    for code in LANGUAGES:
        before = len(pictures) * len(layouts)
        captions = [world.caption(layout, code, 0) for layout in layouts]
        pictures[code] = draw(system, captions, numbers, on_chunk=_after(before, on_drawn))
    shuffled = layouts[:]
    random.Random(seed).shuffle(shuffled)
    others = layouts_of(world, total, seed + 1)  # of the same law: what is drawn from one prompt is no draw of another
    renders = (np.stack([world.image(layout) for layout in asked]) for asked in (layouts, others))
    made, true, real = (judge.features(to_tensor(images)) for images in (pictures["en"], *renders))  # [N, D]
    return SceneScore(
        model=scene_accuracy(judge, pictures, layouts),
        floor=scene_accuracy(judge, pictures, shuffled),
        ceiling=ceiling_of(system, judge, world, layouts),
        frechet={"model": frechet_interval(made, real), "floor": frechet_interval(true, real)},
        seed=seed,
        prompts=len(layouts),
    )


@final
@dataclass(frozen=True)
class SceneScores:
    """Scene accuracy of a system that reads sentences, beside its floor and ceiling.

    Attributes:
        prompts: in each language, the same number of each kind.
        seed: of prompts and noise.
    """

    prompts: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.prompts < 1:
            raise UsageError(f"prompts must be 1 or more, found {self.prompts}.")

    def __call__(self, subject: Subject) -> Evaluation:
        system = subject.system
        if not system.limits.prompt_required:
            raise UsageError(
                f"{system.spec.name!r} was not trained on scenes described in sentences, so there is no scene accuracy "
                "to measure. Evaluate the run folder of a training for its held-out losses, or measure a folder of its "
                "pictures against real ones (--against)."
            )
        with subject.progress("drawing", len(LANGUAGES) * self.prompts) as tick:
            found = evaluate(system, bind_judge(), total=self.prompts, seed=self.seed, on_drawn=tick)
        rows = {"floor": found.floor, "model": found.model, "ceiling": found.ceiling}
        frechet = {k: {"value": v.value, "low": v.low, "high": v.high} for k, v in found.frechet.items()}
        record = {"model": system.spec.name, "prompts": found.prompts, "seed": self.seed}
        text = f"{render_table(rows)}\n\n{LEGEND}" + "".join(
            f"\n\nFréchet distance, {k}: {v}" for k, v in found.frechet.items()
        )
        notes: tuple[str, ...] = ()
        if found.prompts != self.prompts:
            said = f"{found.prompts} prompts in each language, not {self.prompts}"
            notes = (f"{said}: every kind of prompt gets the same number.",)
        return Evaluation({**record, "scene_accuracy": table_record(rows), "frechet": frechet}, text, notes)


def _after(before: int, on_drawn: Callable[[int], None]) -> Callable[[int], None]:
    """Counts on from `before`."""
    return lambda done: on_drawn(before + done)
