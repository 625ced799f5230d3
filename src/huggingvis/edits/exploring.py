"""Explorations: what a model's latents hold, shown as one labelled sheet and told in numbers.

An exploration is a frozen dataclass of numbers in `edits/explore/NAME.py`, called `Exploration` there, and found by its
file's name. It is called with a system and pictures. What a model can do is asked by the protocols of
`core.protocols`: `Latent`, `Encodes`, `Decodes`, `Likelihood`, `Styles`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from huggingvis.core.errors import UsageError, unknown
from huggingvis.core.media import Picture
from huggingvis.core.protocols import Cond, Encodes, Likelihood
from huggingvis.core.request import Prompt, Request
from huggingvis.core.system import System
from huggingvis.edits import explore
from huggingvis.objectives.likelihood import dequantise

T = TypeVar("T")


@dataclass(frozen=True)
class Tiles:
    """Pictures row by row, and what is written beside, above and under them. `columns`: none for the column labels'."""

    pictures: Sequence[Picture]
    columns: int | None = None
    row_labels: tuple[str, ...] = ()
    column_labels: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """What an exploration found: tiles to look at, a sentence, numbers as JSON values, tensors to keep.

    `notes`: what of it should not be taken at its word, in sentences.
    """

    tiles: Tiles
    text: str
    record: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Exploration(Protocol):
    """Called with a system and the pictures it is asked about."""

    def __call__(self, system: System, pictures: Sequence[Picture]) -> Finding: ...


def explorations() -> dict[str, type[Exploration]]:
    """Every exploration by its name."""
    names = sorted(found.name for found in pkgutil.iter_modules(explore.__path__))
    return {name: importlib.import_module(f"{explore.__name__}.{name}").Exploration for name in names}


def exploration(name: str) -> type[Exploration]:
    """The exploration called `name`. Raises `UsageError` with the nearest."""
    known = explorations()
    if name.replace("-", "_") not in known:
        raise unknown("exploration", name, known)
    return known[name.replace("-", "_")]


def able(system: System, protocol: type[T], need: str) -> T:
    """The system's model, if it is able to do what `protocol` says. Raises `UsageError` saying what it would `need`."""
    model = system.generator(Request())
    if not isinstance(model, protocol):
        raise UsageError(
            f"{system.spec.name!r} is a {type(model).__name__} and has no {need}, so this cannot be shown of it. Take "
            "a model of another family: `hvis catalog` lists them."
        )
    return model


def asked(system: System, prompt: str, count: int, *, any_class: bool = False) -> Cond:
    """The condition of `count` pictures of `prompt`. Where a model has classes and none is named: of the first, or of
    `any_class`, as encoders see a picture of which they are told nothing."""
    classes = () if any_class else system.spec.card.get("classes", ())
    return system.conditioner([Request(Prompt(prompt or str(next(iter(classes), ""))))] * count)


def unlike(system: System, pictures: Sequence[Picture]) -> tuple[str, ...]:
    """In sentences, which pictures were made into something else for the model to see them: colour left out, sides
    cut off, small ones enlarged."""
    (width, height), grey = system.spec.size, system.spec.channels == 1
    notes = []
    for i, picture in enumerate(pictures):
        w, h = picture.size
        share = min(w * height, h * width) / max(w * height, h * width)  # of the picture that is left
        pixels = picture.pixels[:, :, :3].astype(int)
        changes = {
            "its colours were left out": grey and bool((pixels != pixels[:, :, :1]).any()),
            f"{1 - share:.0%} of it was cut off": share < 0.8,
            "it was enlarged": 2 * w <= width or 2 * h <= height,
        }
        if made := [change for change, is_so in changes.items() if is_so]:
            known = f"{width}x{height} pixels{' in grey' if grey else ''}"
            notes.append(f"Picture {i + 1} has {w}x{h} pixels and the model sees {known}: {', '.join(made)}.")
    return tuple(notes)


def encoded(system: System, pictures: Sequence[Picture], seed: int) -> Tensor:
    """Latents [B, ...] of pictures.

    A model with as many latents as values is a density of them, which learnt 8-bit values spread evenly over their bins
    (Theis, van den Oord & Bethge 2015, arXiv 1511.01844): at a bin's edge, where black lies, latents are far from all
    that it draws. So values are spread by `seed` before they are read.
    """
    model, x = able(system, Encodes, "encoder"), system.signals(pictures)
    z = model.encode(x)
    if not isinstance(model, Likelihood) or z[0].numel() != x[0].numel():
        return z
    return model.encode(dequantise(x, torch.Generator(x.device).manual_seed(seed)))


def shown(system: System, x: Tensor) -> list[Picture]:
    """Samples of the model as pictures."""
    return system.pictures(system.codec.decode(x))


def between(a: Tensor, b: Tensor, share: Tensor, *, round_the_sphere: bool) -> Tensor:
    """Latents on the way from `a` to `b` [...], at the shares [N]: [N, ...].

    Round the sphere: the great circle of directions (Shoemake 1985), lengths changed evenly. Draws of N(0, I) in many
    dimensions all have about the same length, which a straight line leaves in its middle.
    """
    s = share.reshape(-1, *[1] * a.ndim).to(a)
    la, lb = a.norm(), b.norm()
    if not round_the_sphere or la == 0 or lb == 0:  # the middle itself has no direction
        return a + s * (b - a)
    angle = torch.arccos(((a / la) * (b / lb)).sum().clamp(-1.0, 1.0))
    if angle < 1e-4 or angle > torch.pi - 1e-4:  # one direction, or opposite ones: no circle, or no single one
        return a + s * (b - a)
    direction = (torch.sin((1 - s) * angle) * (a / la) + torch.sin(s * angle) * (b / lb)) / torch.sin(angle)
    return direction * (la + s * (lb - la))
