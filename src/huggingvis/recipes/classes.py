"""Conditions in the training of models of a labelled or an unlabelled source: a class, or any.

A class is a one-hot `vector`; all zeros stands for 'any class', which classifier-free guidance (Ho & Salimans 2022,
arXiv 2207.12598, algorithm 1) trains with a share of the labels left out. Book: chapter 4.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from huggingvis.core.classes import ANY, one_hot
from huggingvis.core.errors import UsageError
from huggingvis.core.protocols import Batch, Cond
from huggingvis.data.draws import stable_hash


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
