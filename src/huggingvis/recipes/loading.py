"""From a run folder to a system that generates: the recipe that trained a run is the one that loads it again.

A recipe that trains a generator offers, beside `Config` and `train`,

    def bind(config: Config, run: Run, device: torch.device) -> System

which builds the nets that `config` describes, takes the newest (averaged) weights of `run`, and reads nothing outside
the run folder but other runs that `config` names. One whose runs are compared by numbers on held-out pictures offers

    def measure(config: Config, run: Run, device: torch.device) -> Measure

and one whose data have a truth of their own, which `hvis evaluate RUN` then tells beside the last losses,

    def evaluate(config: Config, run: Run, device: torch.device) -> Evaluation

Nothing here knows any recipe by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch

from huggingvis.checkpoints.inspect import inspect
from huggingvis.core import config as records
from huggingvis.core.catalog import find_recipe, recipes
from huggingvis.core.errors import FileProblem, UsageError, about
from huggingvis.core.protocols import Encodes, Measure
from huggingvis.core.system import System
from huggingvis.edits.exploring import able
from huggingvis.metrics.features import Features
from huggingvis.recipes.evaluation import Evaluation
from huggingvis.systems.packaged import is_model, no_model, read_record
from huggingvis.train.run import Run


class Recipe(Protocol):
    """A recipe's module."""

    Config: type


@runtime_checkable
class Binds(Recipe, Protocol):
    """A recipe's module whose runs load again as systems."""

    def bind(self, config: Any, run: Run, device: torch.device) -> System: ...


@runtime_checkable
class Measures(Recipe, Protocol):
    """A recipe's module whose runs are compared by numbers on held-out pictures."""

    def measure(self, config: Any, run: Run, device: torch.device) -> Measure: ...


@runtime_checkable
class Represents(Recipe, Protocol):
    """A recipe's module whose runs know pictures by features of their own."""

    def features(self, config: Any, run: Run, device: torch.device) -> Features: ...


@runtime_checkable
class Evaluates(Recipe, Protocol):
    """A recipe's module that knows a truth to compare its runs with."""

    def evaluate(self, config: Any, run: Run, device: torch.device) -> Evaluation: ...


def bind_run(path: Path | str, device: torch.device | None = None) -> System:
    """The system that the run folder `path` trained, on `device` (the CPU by default).

    Raises `FileProblem` for a folder that is no run or has no checkpoint yet, `UsageError` for a run whose recipe is
    unknown or trains no generator.
    """
    run = Run.open(path)
    recipe, config = able_recipe(run, Binds, "makes no pictures. Recipes whose runs generate")
    return recipe.bind(config, run, device or torch.device("cpu"))


def measure_of(run: Run, device: torch.device) -> Measure:
    """What the model that `run` trained is compared by. Raises as `bind_run`."""
    recipe, config = able_recipe(run, Measures, "tells no numbers on other pictures. Recipes whose runs do")
    return recipe.measure(config, run, device)


def features_of(run: Run, system: System, device: torch.device) -> Features:
    """The features by which the model that `run` trained, bound as `system`, knows pictures.

    Those that its recipe names, or else the latents that the model encodes pictures to. Raises `UsageError` for a model
    that encodes none.
    """
    recipe, numbers = _recipe_of(run)
    if isinstance(recipe, Represents):
        return recipe.features(records.from_dict(recipe.Config, numbers), run, device)
    model = able(system, Encodes, "encoder")
    return lambda x: model.encode(x).flatten(1)


def evaluation_of(run: Run, device: torch.device) -> Evaluation | None:
    """What the recipe that trained `run` itself tells of it, if it does."""
    recipe, numbers = _recipe_of(run)
    if not isinstance(recipe, Evaluates):
        return None
    return recipe.evaluate(records.from_dict(recipe.Config, numbers), run, device)


Able = TypeVar("Able", bound=Recipe)


def able_recipe(run: Run, protocol: type[Able], lack: str) -> tuple[Able, Any]:
    """The recipe that trained `run`, which must do what `protocol` says, and the numbers it was given.

    Raises as `bind_run`; `lack` says what other runs cannot do, and begins to name those that can.
    """
    recipe, numbers = _recipe_of(run)
    if not isinstance(recipe, protocol):
        able = sorted(known for known, entry in recipes().items() if isinstance(entry.load(), protocol))
        raise UsageError(
            f"{run.path} was trained by the recipe {run.config['recipe']!r}, which {lack}: {', '.join(able)}."
        )
    with about(run.path / "config.toml"):
        return recipe, records.from_dict(recipe.Config, numbers)


def _recipe_of(run: Run) -> tuple[Any, dict[str, Any]]:
    """The recipe that trained `run`, and the numbers it was given as they stand in its config.toml."""
    name, numbers = run.config.get("recipe"), run.config.get("config")
    if not isinstance(name, str) or not isinstance(numbers, dict):
        raise FileProblem(
            f"{run.path / 'config.toml'} does not say which recipe made this run: expected a text `recipe` and a "
            "table `config`. Restore the file, or train the model again with `hvis train`."
        )
    with about(run.path / "config.toml"):
        return find_recipe(name), numbers


def folder_facts(path: Path) -> dict[str, Any]:
    """What a model folder or a run folder is, in JSON values; sizes in bytes, parts counted in numbers.

    Raises `FileProblem` for a folder that is neither, or is damaged.
    """
    if is_model(path):
        record = read_record(path)
        told = {"format": "model folder", "name": record["name"], "family": record["family"]}
        return {"path": str(path), **told, **({"size": record["size"]} if "size" in record else {}), **_parts(path)}
    if not (path / "config.toml").is_file():
        raise no_model(path, "Give one of these, or a file.")
    run = Run.open(path)
    saved = run.checkpoints()
    return {
        "path": str(path),
        "format": "run folder",
        "name": path.resolve().name,
        "recipe": run.config.get("recipe"),
        "steps": saved[-1].step if saved else 0,
        "asked": run.config.get("config"),
        **(_parts(saved[-1].path) if saved else {}),
    }


def _parts(folder: Path) -> dict[str, Any]:
    """The weights files of a folder."""
    found: Iterable[Path] = sorted(folder.glob("*.safetensors"))
    parts = {file.stem: {"bytes": file.stat().st_size, "numbers": inspect(file).numel} for file in found}
    return {"bytes": sum(part["bytes"] for part in parts.values()), "parts": parts}
