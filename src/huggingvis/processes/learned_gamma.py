r"""A process whose noise levels are learnt: gamma(t) is a monotone network.

Kingma, Salimans, Poole, Ho 2021, arXiv 2107.00630, Sec. 3.2 and App. H: a linear layer, and a hidden layer of sigmoids
beside it, all weights positive, so that gamma rises whatever they are. Scaled to run from 0 to 1,

    s(u) = (f(u) - f(0))/(f(1) - f(0)),   f(u) = u + sum_k h_k sigmoid(w_k u + b_k),   h_k, w_k > 0
    gamma(u) = gamma_0 + (gamma_1 - gamma_0) s(u)

(their two linear layers in a row are one here, and the scaling makes the weight of u be 1). The bound knows gamma_0 and
gamma_1 only; s moves nothing but the variance of its estimate (Sec. 5.1), and that is what
`objectives.variational_diffusion` trains it by. Derivatives are closed forms. Book: chapter 4, "Variational diffusion".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.core.shapes import double
from huggingvis.processes.gamma import GAMMA_0, GAMMA_1, Gamma, check_ends, progress

HALVINGS = 54
"""Of [0, 1], in which an inverse is sought: then it is known to float64."""


@final
class Monotone(nn.Module):
    """s(u), from 0 at u = 0 to 1 at u = 1, rising everywhere. A fresh one is nearly straight."""

    def __init__(self, hidden: int = 1024):
        super().__init__()
        centre, steep = 1.5 * torch.rand(hidden) - 0.25, 4 * 16 ** torch.rand(hidden)
        self.height = nn.Parameter(_unsoftplus(torch.full((hidden,), 1 / hidden)))
        self.steep = nn.Parameter(_unsoftplus(steep))
        self.offset = nn.Parameter(-steep * centre)

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """(s, ds/du) at `u` [] or [B], float64 on its device; gradients go to the weights and to u."""
        height, steep, offset = self._weights()  # [K] each
        there = u.to(height.device)
        h = torch.sigmoid(there[..., None] * steep + offset)  # [..., K]
        low, high = self._ends()
        s = (there + h @ height - low) / (high - low)
        return s.to(u.device), ((1 + (h * (1 - h)) @ (height * steep)) / (high - low)).to(u.device)

    @torch.no_grad()
    def inverse(self, s: Tensor) -> Tensor:
        """The u at which s is `s` [] or [B], by halving the interval; 0 or 1 for what lies beyond."""
        height, steep, offset = self._weights()
        first, last = self._ends()
        wanted = first + s.to(height.device) * (last - first)
        low, high = torch.zeros_like(wanted), torch.ones_like(wanted)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            below = middle + torch.sigmoid(middle[..., None] * steep + offset) @ height < wanted
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return ((low + high) / 2).to(s.device)

    def _weights(self) -> tuple[Tensor, Tensor, Tensor]:
        height, steep = (F.softplus(double(raw)) for raw in (self.height, self.steep))
        return height, steep, double(self.offset)

    def _ends(self) -> tuple[Tensor, Tensor]:
        """f at 0 and at 1."""
        height, steep, offset = self._weights()
        return torch.sigmoid(offset) @ height, 1 + torch.sigmoid(steep + offset) @ height


def _unsoftplus(x: Tensor) -> Tensor:
    return x + torch.log(-torch.expm1(-x))


@final
class Ends(nn.Module):
    """gamma_0 and gamma_1 as numbers that are learnt; the second stays above the first."""

    def __init__(self, start: float, end: float):
        super().__init__()
        self.start = nn.Parameter(torch.tensor(start))
        self.log_width = nn.Parameter(torch.tensor(math.log(end - start)))

    def forward(self) -> tuple[Tensor, Tensor]:
        """(gamma_0, gamma_1 - gamma_0), [] float64."""
        return double(self.start), double(self.log_width).exp()


@final
class LearnedGamma(nn.Module, Gamma):
    """gamma from `start` to `end`, which are learnt too with `learn_ends`; the clock is always told by these two.

    `shape` is s(u) and `ends` what is learnt of the ends. Samplers ask for one time after another: keep it on the CPU
    when it is only used.
    """

    def __init__(self, start: float = GAMMA_0, end: float = GAMMA_1, *, learn_ends: bool = False, hidden: int = 1024):
        super().__init__()
        check_ends(start, end)
        self.start, self.end = start, end
        self.shape = Monotone(hidden)
        self.ends = Ends(start, end) if learn_ends else None

    def parts(self) -> Mapping[str, nn.Module]:
        """What is learnt, by the names under which checkpoints keep it."""
        return {"gamma": self.shape} | ({"ends": self.ends} if self.ends is not None else {})

    def gamma(self, u: Tensor) -> Tensor:
        start, width = self._range(u)
        return start + width * self.shape(u)[0]

    def slope(self, u: Tensor) -> Tensor:
        return self._range(u)[1] * self.shape(u)[1]

    @torch.no_grad()
    def u_of(self, gamma: Tensor) -> Tensor:
        start, width = self._range(gamma)
        return self.shape.inverse((gamma - start) / width)

    def clock(self, t: Tensor) -> Tensor:
        return progress(self.log_snr(t), self.start, self.end)

    def _range(self, u: Tensor) -> tuple[float | Tensor, float | Tensor]:
        if self.ends is None:
            return self.start, self.end - self.start
        start, width = self.ends()
        return start.to(u.device), width.to(u.device)
