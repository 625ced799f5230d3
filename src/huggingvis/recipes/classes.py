"""Conditions of models trained on a labelled or an unlabelled source: a class by its name, or any.

A class is a one-hot `vector`; all zeros stands for 'any class', which classifier-free guidance (Ho & Salimans 2022,
arXiv 2207.12598, algorithm 1) trains with a share of the labels left out. Book: chapter 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from huggingvis.core.classes import ANY
from huggingvis.core.errors import UsageError, unknown
from huggingvis.core.protocols import Batch, Cond
from huggingvis.core.request import Request
from huggingvis.data.draws import stable_hash


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """[B] class numbers -> [B, classes] float32, zeros for `ANY`."""
    return F.one_hot(labels.clamp(min=0), classes).float() * (labels != ANY)[:, None]


def with_any(labels: Tensor, share: float, index: int) -> Tensor:
    """The labels of batch `index` with a `share` of them replaced by `ANY`, always the same ones."""
    left_out = [stable_hash("any class", index, i) % 10_000 < 10_000 * share for i in range(len(labels))]
    return torch.where(torch.tensor(left_out), torch.full_like(labels, ANY), labels)


def each_class(classes: int, columns: int, device: torch.device) -> Tensor:
    """One-hot classes of a sheet with a row of `columns` pictures for each class, [classes columns, classes]."""
    return torch.eye(classes, device=device).repeat_interleave(columns, dim=0)


@final
class LabelCondition:
    """Training batches' `label` -> the `vector` port."""

    def __init__(self, classes: int):
        self.classes = classes

    def __call__(self, batch: Batch) -> Cond:
        if "label" not in batch:
            raise UsageError(
                f"This model knows {self.classes} classes, and these pictures are not sorted into the same ones. Give "
                "pictures of the classes that it was trained on."
            )
        return {"vector": one_hot(batch["label"], self.classes)}


@final
class ClassConditioner:
    """Requests -> the `vector` port: a prompt is a class's name or number, the empty one any class."""

    def __init__(self, classes: Sequence[str], device: torch.device):
        self.classes, self.device = tuple(classes), device

    def number(self, prompt: str) -> int:
        """The class that a prompt names. Raises `UsageError` with the nearest names."""
        asked = " ".join(prompt.split()).casefold()
        if not asked:
            return ANY
        folded = [name.casefold().replace("_", " ") for name in self.classes]
        for known in (folded, [str(i) for i in range(len(folded))]):
            if asked.replace("_", " ") in known:
                return known.index(asked.replace("_", " "))
        raise unknown("class", prompt, self.classes)

    def __call__(self, requests: Sequence[Request]) -> Cond:
        wanted = torch.tensor([self.number(r.prompt.text) for r in requests])
        unwanted = torch.tensor([self.number(r.prompt.negative) for r in requests])
        cond = {"vector": one_hot(wanted, len(self.classes)), "negative.vector": one_hot(unwanted, len(self.classes))}
        return {key: value.to(self.device) for key, value in cond.items()}  # [B, K]

    def prepare(self, cond: Cond) -> Cond:
        return cond

    def notes(self, request: Request) -> tuple[str, ...]:
        return ()
