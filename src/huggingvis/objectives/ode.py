r"""Ordinary differential equations, solved to a tolerance or in equal steps.

Dormand & Prince 1980, "A family of embedded Runge-Kutta formulae" (order 5, error by order 4, last slope kept), with
the usual control of steps (Hairer, Norsett & Wanner 1993, "Solving Ordinary Differential Equations I", Sec. II.4), and
the classical fourth-order method. What is solved is dy/du = f(u, y) with y [B, N]. Book: chapter 4, "Likelihood".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor

from huggingvis.core.errors import NumericalTrouble

Field = Callable[[float, Tensor], Tensor]
"""f(u, y): the slope [B, N] at y [B, N]."""

A = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
NODES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


class Solver(Protocol):
    """Carries y from `start` to `end`, start < end."""

    def __call__(self, field: Field, y: Tensor, start: float, end: float) -> Tensor: ...


@final
@dataclass(frozen=True)
class RungeKutta4:
    """The classical method in `steps` equal steps: 4 `steps` calls, and no datum depends on the others of its batch."""

    steps: int = 50

    def __call__(self, field: Field, y: Tensor, start: float, end: float) -> Tensor:
        h = (end - start) / self.steps
        for i in range(self.steps):
            u = start + i * h
            k1 = field(u, y)
            k2 = field(u + h / 2, y + h / 2 * k1)
            k3 = field(u + h / 2, y + h / 2 * k2)
            y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + field(u + h, y + h * k3))
        return y


@final
@dataclass(frozen=True)
class DormandPrince:
    """Steps as long as the error of every datum (root mean square) stays under `atol` + `rtol` |y|.

    Raises `NumericalTrouble` after `most` steps, or where slopes are not finite.
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    most: int = 2000

    def __call__(self, field: Field, y: Tensor, start: float, end: float) -> Tensor:
        u, h, slope = start, (end - start) / 100, field(start, y)
        for _ in range(self.most):
            h = min(h, end - u)
            after, slopes = self._try(field, u, y, h, slope)
            error = self._error(h, y, after, slopes)
            if error != error:
                break
            if error <= 1:
                u, y, slope = u + h, after, slopes[-1]
                if end - u <= 1e-12 * (end - start):
                    return y
            h *= min(5.0, max(0.2, 0.9 * max(error, 1e-10) ** -0.2))
        raise NumericalTrouble(
            f"The ODE of the probability flow could not be solved: at {u:.6g} of {start:.6g} to {end:.6g} its steps "
            f"had become {h:.3g} long. Allow larger errors (rtol, atol), or look whether the net's answers are finite."
        )

    def _try(self, field: Field, u: float, y: Tensor, h: float, slope: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(y after a step of h, the seven slopes); the last is that at the step's end."""
        slopes, there = [slope], y
        for node, row in zip(NODES, A, strict=True):
            there = y + h * torch.stack([a * k for a, k in zip(row, slopes, strict=True)]).sum(0)
            slopes.append(field(u + node * h, there))
        return there, slopes

    def _error(self, h: float, y: Tensor, after: Tensor, slopes: list[Tensor]) -> float:
        off = h * torch.stack([e * k for e, k in zip(ERROR, slopes, strict=True)]).sum(0)  # [B, N]
        size = self.atol + self.rtol * torch.maximum(y.abs(), after.abs())
        return float((off / size).square().mean(1).sqrt().max())
