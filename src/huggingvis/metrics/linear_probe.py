r"""Linear probe: how well classes are told apart by a linear function of features that were learnt without them.

A. Radford, L. Metz, S. Chintala, "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
Networks" (2015), arXiv 1511.06434, Sec. 5.1, give the features of a discriminator (`DCGANCritic.features`) to a linear
support vector machine. Here the classifier is the one with a closed form, the least-squares one (Rifkin and Lippert
2007): targets y are 1 for the class and -1 for the others,

    W = argmin |X W - Y|^2 + lambda |W|^2,        class of x = argmax_k (x W)_k

on features brought to mean 0 and deviation 1. Its accuracy is close to the machine's, but not the same figure; lambda
is chosen on a fifth of the training pictures. Book: chapter 9, "Judges".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from huggingvis.core.errors import UsageError
from huggingvis.metrics.features import as_features

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Values of lambda that are tried, in shares of the number of training pictures."""


@dataclass(frozen=True)
class ProbeScore:
    """Share of `n` pictures whose class is told, its standard error, and the lambda chosen."""

    accuracy: float
    error: float
    ridge: float
    n: int


def linear_probe(
    training: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor], ridges: Sequence[float] = RIDGES
) -> ProbeScore:
    """Trained on features [N, D] and labels [N] of `training`, scored on those of `held_out`.

    Raises `UsageError` for shapes that do not go together or a single class, `NumericalTrouble` for NaN or infinity.
    """
    (x, y), (other, truth) = (_checked(*pair) for pair in (training, held_out))
    if x.shape[1] != other.shape[1] or len(y.unique()) < 2 or not ridges:
        raise UsageError(
            f"A probe needs two classes, one kind of features and a ridge; found {len(y.unique())} classes, "
            f"{x.shape[1]} and {other.shape[1]} numbers, {len(ridges)} ridges."
        )
    best = ridges[0]
    if len(ridges) > 1 and len(x) >= 10:
        kept = torch.arange(len(x)) % 5 > 0
        fitted = ridge_classifiers(x[kept], y[kept])
        best = max(ridges, key=lambda ridge: float((fitted(ridge)(x[~kept]) == y[~kept]).double().mean()))
    right = float((ridge_classifiers(x, y)(best)(other) == truth).double().mean())
    return ProbeScore(right, math.sqrt(right * (1 - right) / len(truth)), best, len(truth))


def ridge_classifiers(x: Tensor, y: Tensor) -> Callable[[float], Callable[[Tensor], Tensor]]:
    """From features [N, D] in float64 and labels [N]: a ridge -> a function from features [M, D] to labels [M].

    One eigendecomposition, of the smaller of X^T X and X X^T, serves every ridge.
    """
    std, mean = torch.std_mean(x, dim=0, correction=0)
    std = torch.where(std > 0, std, torch.ones_like(std))
    scaled = (x - mean) / std  # [N, D]
    labels, index = y.unique(return_inverse=True)  # [K], [N]
    targets = 2 * F.one_hot(index, len(labels)).to(x) - 1  # [N, K]
    offset = targets.mean(0)
    centred, wide = targets - offset, len(x) < x.shape[1]
    values, vectors = torch.linalg.eigh(scaled @ scaled.T if wide else scaled.T @ scaled)
    turned = vectors.T @ (centred if wide else scaled.T @ centred)

    def classifier(ridge: float) -> Callable[[Tensor], Tensor]:
        found = vectors @ (turned / (values.clamp_min(0) + ridge * len(x))[:, None])
        weight = scaled.T @ found if wide else found  # [D, K]
        return lambda rows: labels[((rows - mean) / std @ weight + offset).argmax(1)]

    return classifier


def _checked(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    x = as_features(features)
    if labels.shape != (len(x),):
        raise UsageError(f"Each row of features has one label; found {list(x.shape)} and {list(labels.shape)}.")
    return x, labels.detach().cpu()
