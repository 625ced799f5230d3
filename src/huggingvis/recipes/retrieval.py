"""Databases of pictures that a generative model looks up: their features, their files, and sampling with them.

A. Blattmann, R. Rombach, K. Oktay, J. Müller, B. Ommer, "Retrieval-Augmented Diffusion Models", 2022, arXiv:2204.11824,
sections 3.1 and 3.3. Book: chapter 4, "Models with a memory".
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional as F

from huggingvis.checkpoints.io import load, save
from huggingvis.core.errors import FileProblem, UsageError, unknown
from huggingvis.core.noise import Noise
from huggingvis.core.protocols import Cond, Generative, OnStep
from huggingvis.core.request import Request
from huggingvis.data.neighbours import Memory
from huggingvis.data.standard import Split
from huggingvis.metrics.features import Features, gather
from huggingvis.objectives.retrieval import tokens_of
from huggingvis.recipes.sources import Pictures, View, open_split
from huggingvis.systems.by_class import ClassConditioner
from huggingvis.systems.judges import digits, world
from huggingvis.systems.unconditional import Unconditional

DATABASE, NEIGHBOURS = "database", "neighbours"
OPTIONS = (DATABASE, NEIGHBOURS)
"""What a request may say of retrieval."""
CHUNK = 256


def features_by_name(name: str, device: torch.device) -> Features:
    """world: the judge that ships with the package; digits:FILE: a trained LeNet-5; pixels: the picture, 8 x 8.

    Raises `UsageError` for another name.
    """
    kind, _, place = name.partition(":")
    if kind == "pixels":
        return lambda x: _resized(x, 8).flatten(1)
    if kind == "world":
        judge = world.bind(device=device)
        return lambda x: judge.features(
            F.interpolate(x, (64, 64), mode="bilinear", antialias=True).expand(-1, 3, -1, -1)
        )
    if kind == "digits" and place:
        return digits.bind(place).features
    raise unknown("features", name, ["world", "digits:FILE", "pixels"])


def _resized(x: Tensor, side: int) -> Tensor:
    return F.interpolate(x, (side, side), mode="bilinear", antialias=True)


def features_of(pictures: Pictures, look: Features) -> Tensor:
    """Features of every picture once, in order, [N, D] float32."""
    return gather(look, (batch["image"] for batch in pictures.once(CHUNK))).float()


def codes_of(features: Tensor, centre: Tensor) -> Tensor:
    """Features [N, D] seen from `centre` [D], of one length sqrt(D): near means a small angle."""
    return F.normalize(features - centre, dim=1) * math.sqrt(features.shape[1])


@final
@dataclass(frozen=True, eq=False)
class Index:
    """A database: features [N, D] float32 of its pictures, their labels if they have classes, and what it was made of.

    `look` names the features.
    """

    features: Tensor
    labels: Tensor | None
    classes: tuple[str, ...]
    data: str
    look: str

    def save(self, path: Path) -> None:
        """A safetensors file. Raises `FileProblem`."""
        told = {"data": self.data, "features": self.look, "classes": json.dumps(self.classes)}
        save(path, {"features": self.features, **({} if self.labels is None else {"labels": self.labels})}, told)

    @classmethod
    def load(cls, path: Path) -> Index:
        """What `save` wrote. Raises `FileProblem`."""
        tensors = load(path, check=True)
        with safe_open(path, framework="pt") as file:
            told = file.metadata() or {}
        if (
            "features" not in tensors
            or tensors["features"].ndim != 2
            or not {"features", "data", "classes"} <= set(told)
        ):
            raise FileProblem(f"{path} is no database of pictures. Give a source of pictures, or such a file of a run.")
        classes = tuple(json.loads(told["classes"]))
        return cls(tensors["features"], tensors.get("labels"), classes, told["data"], told["features"])

    @property
    def centre(self) -> Tensor:
        """The mean of its features, [D]."""
        return self.features.mean(0)

    def memory(self, centre: Tensor) -> Memory:
        """As a model whose codes are seen from `centre` looks it up."""
        return Memory(codes_of(self.features, centre), self.labels, self.classes)


@final
@dataclass(frozen=True, eq=False)
class Databases:
    """The memory that a request asks for: its option `database` (a source of pictures, or a run's database file), else
    `own`, the one of the training. `view`: how pictures are shown; `look`: opens the features, once they are needed.
    """

    own: Index
    view: View
    root: str
    look: Callable[[], Features]
    opened: dict[str, Memory] = field(default_factory=dict)

    def __call__(self, request: Request) -> Memory:
        name = request.options.get(DATABASE, "")
        if name not in self.opened:
            index = self.open(name) if name else self.own
            self.opened[name] = index.memory(self.own.centre)
        return self.opened[name]

    def open(self, name: str) -> Index:
        """The database called `name`. Raises `UsageError`, `FileProblem`."""
        if name.endswith(".safetensors"):
            found = Index.load(Path(name))
            if found.look != self.own.look or found.features.shape[1] != self.own.features.shape[1]:
                raise UsageError(
                    f"{name} holds features {found.look!r}, and this model reads {self.own.look!r}. Give the pictures "
                    "themselves, as in database=folder:PATH."
                )
            return found
        pictures = open_split(name, Split.TRAIN, self.view, root=self.root)
        return indexed(pictures, features_of(pictures, self.look()), self.own.look)


def indexed(pictures: Pictures, features: Tensor, look: str) -> Index:
    """The database of `pictures`, whose features are known."""
    labels = pictures.labels(torch.arange(len(pictures)).numpy())
    return Index(features, labels, pictures.facts.classes, pictures.facts.data, look)


def neighbours_asked(request: Request, usual: int) -> int:
    """The option `neighbours` of a request. Raises `UsageError` for what is no count."""
    said = request.options.get(NEIGHBOURS, str(usual))
    if not said.isdecimal():
        raise UsageError(f"The option neighbours is a count, 0 for none, found {said!r}.")
    return int(said)


@final
@dataclass(frozen=True, eq=False)
class Retrieving:
    """A generative model with its memory: each sample draws a picture from it, uniformly or of the class that the
    condition's `wanted` [n] says, and looks at its `k` nearest others, as a picture did in training.
    """

    model: Generative
    memory: Memory
    k: int
    device: torch.device

    def sample(self, n: int, cond: Cond, *, noise: Noise, on_step: OnStep | None = None) -> Tensor:
        u = torch.special.ndtr(noise.draw(torch.empty(n, 1, dtype=torch.float64))).flatten()  # [n]
        near = self.memory.around(self.memory.drawn(u, cond.get("wanted")), self.k)  # [n, k, D]
        tokens = tokens_of(near).to(self.device)
        told = {"tokens": tokens, "negative.tokens": tokens[:, :1]}
        return self.model.sample(n, told, noise=noise, on_step=on_step)


@final
@dataclass(frozen=True, eq=False)
class AskedClass:
    """Requests -> `wanted` [B]: a prompt names a class of the database in use, the empty one any picture."""

    databases: Databases

    def __call__(self, requests: Sequence[Request]) -> Cond:
        for request in requests:
            if request.prompt.negative.strip():
                raise UsageError("Pictures are looked up for what there should be. Leave the negative prompt empty.")
        classes = self.databases(requests[0]).classes
        if not classes:
            return Unconditional()(requests)
        named = ClassConditioner(classes, torch.device("cpu"))
        return {"wanted": torch.tensor([named.number(r.prompt.text) for r in requests])}

    def prepare(self, cond: Cond) -> Cond:
        return cond

    def notes(self, request: Request) -> tuple[str, ...]:
        return ()
