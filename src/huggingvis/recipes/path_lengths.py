"""Perceptual path lengths of a model whose pictures are made of latents: how smooth the way between two of them is.

Karras, Laine & Aila 2018, arXiv 1812.04948, Sec. 4.1 (see `metrics.path_length`): l_Z round the sphere of draws z, and
of a style-based generator l_W along lines between styles as well, which its mapping should have made the shorter. A
model of classes stays in one class on each way. Book: chapter 9, "Judges".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from huggingvis.core.noise import Noise, SeedNoise
from huggingvis.core.protocols import Cond, Latent, Mapped, Styles
from huggingvis.core.request import Prompt, Request
from huggingvis.edits.exploring import able
from huggingvis.metrics.features import Features, pixels
from huggingvis.metrics.path_length import PathLength, Steps, Way, changes, great_circle, line, trimmed_mean
from huggingvis.recipes.drawing import prompts_for
from huggingvis.recipes.evaluation import Evaluation, Subject
from huggingvis.recipes.judging import open_features

CHUNK = 32


@dataclass(frozen=True)
class Space:
    """Where ways lead: how latents of a condition are drawn, which way joins two, and what pictures they become."""

    draw: Callable[[int, Cond, Noise], Tensor]
    way: Way
    paint: Callable[..., Tensor]


@final
@dataclass(frozen=True)
class PathLengths:
    """Mean squared change of features for a step on the way, over the squared step.

    Attributes:
        ways: pairs of latents; the paper takes 100,000.
        judge: whose features tell pictures apart; none: the pixels themselves.
        seed: of the latents and the places on the ways.
    """

    ways: int = 1000
    judge: Path | None = None
    seed: int = 0

    def __call__(self, subject: Subject) -> Evaluation:
        system = subject.system
        spaces = spaces_of(able(system, Latent, "latents with a law of their own"))
        seen = pixels if self.judge is None else open_features(self.judge, system.device)
        prompts = prompts_for(system, self.ways)
        found = {name: self._length(space, seen, subject, prompts) for name, space in spaces.items()}
        by = "pixels in [-1, 1]" if self.judge is None else f"features of {self.judge.name}"
        lines = [f"l_{name.upper():<12} {told.mean:.6g} ± {told.error:.2g}" for name, told in found.items()]
        head = f"Path lengths of {system.spec.name} over {self.ways:,} ways, by {by}"
        return Evaluation(
            {
                "model": system.spec.name,
                "ways": self.ways,
                "seed": self.seed,
                "features": "pixels" if self.judge is None else self.judge.name,
                "path_length": {name: asdict(told) for name, told in found.items()},
            },
            "\n".join([head, *lines]),
            ("Path lengths compare only under the same features; published ones are by VGG's.",),
        )

    def _length(self, space: Space, seen: Features, subject: Subject, prompts: Sequence[str]) -> PathLength:
        """The length of ways in `space`, each with its prompt."""
        system, steps = subject.system, Steps(seed=self.seed)
        rng, parts = steps.generator(), []
        with subject.progress("walking", self.ways) as tick, torch.inference_mode():
            for start in range(0, self.ways, CHUNK):
                part = prompts[start : start + CHUNK]
                cond = system.conditioner.prepare(system.conditioner([Request(Prompt(text)) for text in part]))
                first = [self.seed + 2 * (start + i) for i in range(len(part))]
                a, b = (space.draw(len(part), cond, SeedNoise([seed + end for seed in first])) for end in (0, 1))
                parts.append(changes(partial(space.paint, cond=cond), (a, b), seen, space.way, steps, rng))
                tick(start + len(part))
        return trimmed_mean(parts, steps.trim)


def spaces_of(model: Latent) -> dict[str, Space]:
    """The spaces in which ways of a model are measured, by their letter."""

    def draw(n: int, cond: Cond, noise: Noise) -> Tensor:
        return model.latents(n, cond, noise=noise)

    if not isinstance(model, Styles):
        return {"z": Space(draw, great_circle, model.decode)}
    out = {"w": Space(draw, line, model.decode)}
    if isinstance(model, Mapped):
        mapped = model

        def normals(n: int, cond: Cond, noise: Noise) -> Tensor:
            return mapped.normals(n, noise=noise)

        def styled(z: Tensor, cond: Cond) -> Tensor:
            return mapped.decode(mapped.styled(z, cond), cond)

        out["z"] = Space(normals, great_circle, styled)
    return out
