"""What `published.py` measures of a finished run: what `hvis evaluate` tells of it and, beside an autoencoder, PCA."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from published_rows import Row
from torch import Tensor

import huggingvis as hv
from huggingvis.data.standard import Split
from huggingvis.recipes.evaluation import Wanted
from huggingvis.recipes.held_out import HeldOut, mean_and_error
from huggingvis.recipes.parzen_window import ParzenWindow
from huggingvis.recipes.pictures import Facts, View
from huggingvis.train.run import Run


@dataclass(frozen=True)
class Figure:
    """A mean over pictures and its standard error (None for what is no mean)."""

    value: float
    error: float | None = None


def measure(row: Row, run: Run, wanted: Wanted, draws: int | None = None) -> tuple[Mapping[str, Figure], int]:
    """Every figure of a run on the pictures `wanted`, and how many these are; `draws` in place of the row's."""
    if "parzen" in row.paper:
        told = hv.evaluate(run.path, ParzenWindow(pictures=wanted), device="cpu").record
        score = told["parzen"]
        return {"parzen": Figure(score["mean"], score["error"]), "width": Figure(score["sigma"])}, told["n"]
    told = hv.evaluate(run.path, HeldOut(wanted, row.draws if draws is None else draws), device="cpu").record
    figures = {name: Figure(n["mean"], n["standard_error"]) for name, n in told["measured"].items()}
    if "pca" in row.paper:
        figures["pca"] = _components(run, wanted, run.config["config"]["latent_dim"])
    return figures, told["n"]


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
