"""The perfect denoiser of a Gaussian mixture whose components become noise at speeds of their own."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from huggingvis.core.belief import Belief, Gaussian
from huggingvis.core.process import Process
from huggingvis.core.protocols import Cond
from huggingvis.data.mixture import GaussianMixture

F64 = torch.float64


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=F64)


class Exact:
    """E[x_0 | x_t] of a mixture [B, D] on any process whose components have levels of their own."""

    def __init__(self, mixture: GaussianMixture, process: Process):
        self.mixture, self.process = mixture, process

    def __call__(self, x: Tensor, t: Tensor, cond: Cond) -> Belief:
        m, d = self.mixture, x.shape[1]
        a, s = (
            c.reshape(-1, c.shape[-1] if c.ndim > 1 else 1).expand(-1, d)
            for c in map(torch.as_tensor, self.process.coefficients(t, x))
        )
        left = a[:, None, :, None] * m.covs  # [B or 1, K, D, D]: A C
        total = left * a[:, None, None, :] + torch.diag_embed(s**2)[:, None]  # A C A + S^2
        off = x[:, None] - a[:, None] * m.means  # [B, K, D]
        solved = torch.linalg.solve(total, off[..., None])[..., 0]
        logs = m.weights.log() - ((off * solved).sum(2) + torch.logdet(2 * math.pi * total)) / 2
        each = m.means + (left.mT @ solved[..., None])[..., 0]
        return Gaussian(torch.einsum("bk,bkd->bd", torch.softmax(logs, 1), each))
