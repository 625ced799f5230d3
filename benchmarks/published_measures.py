"""What `published.py` measures of a finished run: what `hvis evaluate` tells of it and, beside an autoencoder, PCA."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from trainings import Training, taken

import huggingvis as hv
from huggingvis.app.arguments import Parser
from huggingvis.app.commands import evaluate
from huggingvis.core.errors import UsageError
from huggingvis.data.standard import Split
from huggingvis.recipes.evaluation import Wanted
from huggingvis.recipes.held_out import mean_and_error
from huggingvis.recipes.pictures import Facts, View
from huggingvis.train.run import Run


@dataclass(frozen=True)
class Figure:
    """A mean over pictures and its standard error (None for what is no mean)."""

    value: float
    error: float | None = None


@dataclass(frozen=True)
class Asked:
    """The pictures that are measured on, and how many draws of each number; none: the row's own."""

    split: str = "validation"
    root: str | None = None
    pictures: int | None = None
    draws: int | None = None

    def words(self, row: Training, words: str) -> list[str]:
        """Those of `hvis evaluate` that a row is measured by, with what was asked for."""
        out = shlex.split(os.path.expandvars(words))
        own: dict[str, Any] = {"split": self.split, "root": self.root, "draws": self.draws or row.draws}
        if not any(word in ("--frechet", "--accuracy") for word in out):  # these say themselves how many they draw
            own["limit"] = self.pictures
        for name, value in own.items():
            if value is not None and name in taken(words):
                out = [*_without(out, f"--{name}"), f"--{name}", str(value)]
        return out


def _without(words: Sequence[str], flag: str) -> list[str]:
    if flag not in words:
        return list(words)
    place = words.index(flag)
    return [*words[:place], *words[place + 2 :]]


def measure(row: Training, run: Run, asked: Asked) -> tuple[Mapping[str, Figure], int | None]:
    """Every figure of a run, and how many pictures the first of its evaluations took, of those that take some."""
    figures: dict[str, Figure] = {}
    counts = []
    for words in row.evaluate:
        told = evaluated(run, asked.words(row, words))
        new = figures_of(told)
        if set(new) & set(figures):
            raise UsageError(f"{words!r} tells {', '.join(set(new) & set(figures))} of {run.path} once more.")
        figures |= new
        counts += [told["n"]] if "n" in told else []
    if not row.evaluate and not row.held_out:
        figures |= figures_of(told := hv.evaluate(run.path, device="cpu").record)
        counts.append(told["n"])
    figures |= held_out(run, row.held_out)
    if row.recipe == "autoencoder":
        wanted = Wanted(split=Split(asked.split), root=asked.root, limit=asked.pictures)
        figures["pca"] = _components(run, wanted, run.config["config"]["latent_dim"])
    return figures, counts[0] if counts else None


def held_out(run: Run, names: Sequence[str]) -> dict[str, Figure]:
    """Numbers of the last validation of a run, or STAGE.NAME of that of a stage before it, whose figure is STAGE_NAME.

    Raises `UsageError` for a number that was not logged.
    """
    found = {}
    for name in names:
        stage, _, key = name.rpartition(".")
        logged = [line for line in Run.open(run.path / stage).metrics() if f"validation.{key}" in line]
        if not logged:
            raise UsageError(f"{run.path / stage} has logged no held-out {key!r}.")
        found["_".join(filter(None, (stage, key.lstrip("_"))))] = Figure(logged[-1][f"validation.{key}"])
    return found


def evaluated(run: Run, words: Sequence[str]) -> Mapping[str, Any]:
    """What `hvis evaluate RUN` with these words tells."""
    parser = Parser(prog="hvis evaluate")
    evaluate.arguments(parser, [])
    given: argparse.Namespace = parser.read([str(run.path), *words])
    return hv.evaluate(run.path, evaluate.evaluator(given), device="cpu").record


def figures_of(told: Mapping[str, Any]) -> dict[str, Figure]:
    """The figures of a record of `hvis evaluate`."""
    found = {name: Figure(n["mean"], n["standard_error"]) for name, n in told.get("measured", {}).items()}
    if "parzen" in told:
        found |= {
            "parzen": Figure(told["parzen"]["mean"], told["parzen"]["error"]),
            "width": Figure(told["parzen"]["sigma"]),
        }
    if "frechet" in told:
        name = f"frechet_{told['drawn']['steps']}" if "drawn" in told else "frechet"  # in how many steps it was drawn
        found |= {name: Figure(told["frechet"]["value"]), f"{name}_floor": Figure(told["frechet"]["floor"])}
    if "accuracy" in told:
        found |= {
            "accuracy": _share(told["accuracy"]),
            "accuracy_of_real": _share(told["of_real_pictures"]),
            "chance": Figure(told["chance"]),
        }
    for name, share in told.get("said", {}).items():
        found |= {name: Figure(share["value"]), f"{name}_by_chance": Figure(share["by_chance"])}
    for name in ("probe", "probe_of_pixels"):
        if name in told:
            found[name] = Figure(told[name]["accuracy"], told[name]["error"])
    for space, length in told.get("path_length", {}).items():
        found[f"path_{space}"] = Figure(length["mean"], length["error"])
    for key, end in (("swd", ""), ("swd_of_real", "_floor")):
        for level, distance in (told.get(key) or {}).items():
            found[f"swd_{level}{end}"] = Figure(1000 * distance)  # as the paper prints it
    return found


def _share(told: Mapping[str, float]) -> Figure:
    return Figure(told["mean"], told["standard_error"])


def _components(run: Run, wanted: Wanted, kept: int) -> Figure:
    """Squared error of as many principal components of the training pictures, in [0, 1]."""
    facts = Facts.of(run)

    def rows(which: Wanted) -> Tensor:
        pictures = which.of(run).open(View(facts.size, facts.channels))
        return torch.cat([((batch["image"] + 1) / 2).flatten(1) for batch in pictures.once(1000)]).double()

    training = rows(replace(wanted, split=Split.TRAIN, limit=None))
    components = torch.linalg.eigh(torch.cov(training.T))[1][:, -kept:]  # [D, kept], largest last
    off = rows(wanted) - training.mean(0)
    found = mean_and_error("pca", (off - off @ components @ components.T).square().sum(1))
    return Figure(found["mean"], found["standard_error"])
