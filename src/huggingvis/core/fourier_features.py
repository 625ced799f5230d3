r"""Fourier features of the picture: a network that sees the last bits of each value.

Kingma, Salimans, Poole, Ho 2021, arXiv 2107.00630, App. C: most of the likelihood of a picture is in the small
differences between its values, which a convolution sees badly. Beside x_t the network is given, for each n,

    sin(2 pi 2^n x_t),   cos(2 pi 2^n x_t)

with n = 6, 7 for values in [-1, 1]: waves two values and one value of 256 long (their code; 2^n pi with n = 7, 8). They
are made in float32, before anything is rounded to bf16. Book: chapter 4, "Variational diffusion".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from huggingvis.core.process import Around, Process


@final
@dataclass(frozen=True)
class FourierFeatures(Around):
    """`inner`, of a network that is given waves of each channel beside the channels: [B, C (1 + 2 K), ...]."""

    octaves: tuple[int, ...] = (6, 7)

    def given(self, process: Process, x: Tensor, t: Tensor) -> Tensor:
        angles = torch.cat([2 * torch.pi * 2.0**n * x for n in self.octaves], dim=1)  # [B, K C, ...]
        return torch.cat([self.inner.given(process, x, t), angles.sin(), angles.cos()], dim=1)

    def inputs(self, channels: int) -> int:
        return self.inner.inputs(channels) + 2 * len(self.octaves) * channels
