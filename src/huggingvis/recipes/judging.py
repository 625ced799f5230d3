"""Judges by name: networks that look at pictures and take no part in making them.

A judge is a weights file that one of `systems.judges` binds, or the run folder of a recipe that trains one: a module
with `judge(config, run, device)`. What it can tell is asked by type: `Looks` gives features, `Classifies` classes.
Book: chapter 9, "Judges".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from huggingvis.checkpoints.inspect import inspect, modules_with_family
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.metrics.features import Features
from huggingvis.recipes.loading import Recipe, able_recipe
from huggingvis.systems import judges
from huggingvis.train.run import Run


@runtime_checkable
class Looks(Protocol):
    """Tells features [B, D] of pictures [B, C, H, W] in [-1, 1]."""

    def features(self, x: Tensor) -> Tensor: ...


@runtime_checkable
class TrainsJudges(Recipe, Protocol):
    """A recipe's module whose runs judge pictures."""

    def judge(self, config: Any, run: Run, device: torch.device) -> Any: ...


Able = TypeVar("Able")


def open_judge(path: Path, kind: type[Able], does: str, device: torch.device) -> Able:
    """The judge that the weights file or run folder `path` holds, which must be a `kind`, one that `does` something.

    Raises `FileProblem` for another file, `UsageError` for a judge that cannot do it.
    """
    found = _of_run(Run.open(path), device) if path.is_dir() else _of_file(path, device)
    if not isinstance(found, kind):
        raise UsageError(f"The judge in {path} cannot {does}. Give another one.")
    return found


def open_features(path: Path, device: torch.device) -> Features:
    """The features that the judge in `path` gives pictures [B, C, H, W] in [-1, 1].

    Raises as `open_judge`, and `UsageError` where they are asked of pictures that it cannot look at.
    """
    judge = open_judge(path, Looks, "tell features", device)

    def features(x: Tensor) -> Tensor:
        try:
            return judge.features(x.to(device))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise UsageError(
                f"The judge {path} cannot look at pictures {list(x.shape)} ({error}). Give one that was trained on "
                "such pictures with --judge, or leave it out."
            ) from error

    return features


def _of_run(run: Run, device: torch.device) -> object:
    recipe, config = able_recipe(run, TrainsJudges, "trains no judge of pictures. Recipes that do")
    return recipe.judge(config, run, device)


def _of_file(path: Path, device: torch.device) -> object:
    tensors, known = inspect(path).tensors, modules_with_family(judges)
    for family, module in known:
        if family.recognises(tensors):
            return module.bind(path, device)
    raise FileProblem(
        f"{path} holds no judge that is known here; there are {', '.join(family.name for family, _ in known)}. "
        "Give such a file, or the run folder of a trained classifier."
    )
