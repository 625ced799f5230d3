"""Classes of conditional models: one-hot rows, and a class by lot for rows that name none."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from huggingvis.core.noise import Noise

ANY = -1
"""The class number that stands for whichever class."""


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """[B] class numbers -> [B, classes] float32, zeros for `ANY`."""
    return F.one_hot(labels.clamp(min=0), classes).float() * (labels != ANY)[:, None]


def some_class(vector: Tensor, noise: Noise) -> Tensor:
    """One-hot classes [B, K] with each empty row replaced by a class drawn from `noise`, all alike likely.

    One number a row is drawn whether it is needed or not: what is drawn after it does not depend on the class.
    """
    u = 0.5 + 0.5 * torch.erf(noise.draw(vector[:, :1].float()) / math.sqrt(2.0))  # [B, 1] uniform on [0, 1]
    drawn = (u * vector.shape[1]).long().clamp(max=vector.shape[1] - 1)
    lot = torch.zeros_like(vector).scatter(1, drawn, 1.0)
    return torch.where(vector.any(1, keepdim=True), vector, lot)
