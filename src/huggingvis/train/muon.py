"""Muon: momentum whose matrices are made orthogonal before each step.

K. Jordan, Y. Jin, V. Boza, J. You, F. Cesista, L. Newhouse, J. Bernstein, "Muon: An optimizer for hidden layers in
neural networks", 2024, kellerjordan.github.io/posts/muon; step sizes matched to AdamW's after J. Liu et al., "Muon is
Scalable for LLM Training", 2025, arXiv:2502.16982, section 2.2, so that one learning rate serves both. torch.optim.Muon
takes matrices only; here a kernel [c_out, c_in, h, w] counts as the matrix [c_out, c_in h w].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, final

import torch
from torch import Tensor, nn

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of p(s) = a s + b s^3 + c s^5: five rounds of p bring every s from 0.003 to 1 to about [0.7, 1.2],
and raise what is smaller nearly 500 times."""


@torch.no_grad()
def orthogonalised(matrices: Tensor, rounds: int = 5) -> Tensor:
    """U V^T of each matrix U S V^T, [n, rows, columns], its singular values only roughly 1; in bfloat16."""
    a, b, c = QUINTIC
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).to(torch.bfloat16, memory_format=torch.contiguous_format)
    x = x / matrices.flatten(1).norm(dim=1, dtype=torch.float32).clamp(min=1e-12).bfloat16()[:, None, None]
    for _ in range(rounds):  # every singular value of x starts at 1 or below, but for rounding
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


@final
class Muon(torch.optim.Optimizer):
    """w <- w - lr (decay w + 0.2 sqrt(max(rows, columns)) orthogonalised(nesterov momentum of the gradient)).

    Args:
        params: weights with two axes or more.
        lr: learning rate, of AdamW's size (1e-4 to 4e-3): an update has the root mean square an AdamW update has.
        momentum: share of the old momentum that stays.
        weight_decay: decoupled decay.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step from the gradients at hand. Matrices of one shape go through together."""
        assert closure is None, "Muon takes its gradients from .grad"
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[nn.Parameter]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    alike.setdefault((p.shape[0], p[0].numel()), []).append(p)
            for (rows, columns), params in alike.items():
                steps = orthogonalised(torch.stack([self._direction(p, group["momentum"]) for p in params]))
                size = group["lr"] * 0.2 * math.sqrt(max(rows, columns))
                for p, step in zip(params, steps, strict=True):
                    if group["weight_decay"]:
                        p.mul_(1.0 - group["lr"] * group["weight_decay"])
                    p.add_(step.reshape(p.shape), alpha=-size)

    def _direction(self, p: nn.Parameter, momentum: float) -> Tensor:
        """The gradient looked one step ahead (Nesterov), as a matrix [rows, columns]."""
        assert p.grad is not None
        memory = self.state[p]
        if not memory:
            memory["momentum"] = torch.zeros_like(p)
        memory["momentum"].lerp_(p.grad, 1.0 - momentum)
        return p.grad.lerp(memory["momentum"], momentum).flatten(1).bfloat16()
