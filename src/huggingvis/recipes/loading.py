"""From a run folder to a system that generates: the recipe that trained a run is the one that loads it again.

A recipe that trains a generator offers, beside `Config` and `train`,

    def bind(config: Config, run: Run, device: torch.device) -> System

which builds the nets that `config` describes, takes the newest (averaged) weights of `run`, and reads nothing outside
the run folder but other runs that `config` names. Nothing here knows any recipe by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from huggingvis.core import config as records
from huggingvis.core.catalog import find_recipe, recipes
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.system import System
from huggingvis.train.run import Run


@runtime_checkable
class Binds(Protocol):
    """A recipe's module whose runs load again as systems."""

    Config: type

    def bind(self, config: Any, run: Run, device: torch.device) -> System: ...


def bind_run(path: Path | str, device: torch.device | None = None) -> System:
    """The system that the run folder `path` trained, on `device` (the CPU by default).

    Raises `FileProblem` for a folder that is no run or has no checkpoint yet, `UsageError` for a run whose recipe is
    unknown or trains no generator.
    """
    run = Run.open(path)
    name, numbers = run.config.get("recipe"), run.config.get("config")
    if not isinstance(name, str) or not isinstance(numbers, dict):
        raise FileProblem(
            f"{Path(path) / 'config.toml'} does not say which recipe made this run: expected a text `recipe` and a "
            "table `config`. Restore the file, or train the model again with `hvis train`."
        )
    recipe = find_recipe(name)
    if not isinstance(recipe, Binds):
        able = sorted(known for known, entry in recipes().items() if isinstance(entry.load(), Binds))
        raise UsageError(
            f"{path} was trained by the recipe {name!r}, which makes no pictures. Recipes whose runs generate: "
            f"{', '.join(able)}."
        )
    config: Any = records.from_dict(recipe.Config, numbers)
    return recipe.bind(config, run, device or torch.device("cpu"))
