r"""DPM-Solver, singlestep, whose inner points are points of the grid: diffusers' DPMSolverSinglestepScheduler.

Lu et al. 2022, arXiv 2206.00927, and 2211.01095, as in their program: one call per step of the grid. Steps come in
blocks of `order`; step k of a block starts again from the x at the block's start and integrates, as `_exponential`
says, the polynomial through the values m of the block so far, with u_j where they lie,

    k = 1   m_0          k = 2   m_0 + u (m_1 - m_0)/u_1          k = 3   the parabola through m_0, m_1 and m_2

so that a block's last step is one step of `dpm_singlestep` over the whole of it, and its first steps find the inner
points. `midpoint`, the authors' habit: k = 2 weighs u by half of the weight of 1, and k = 3 leaves out m_1. A block
that the grid's end cuts short ends with a lower order. Book: chapter 4, "DPM-Solver".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from torch import Tensor

from huggingvis.core.noise import Noise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Bound
from huggingvis.core.sampler import Sampler, State
from huggingvis.samplers._exponential import weights
from huggingvis.samplers._levels import Levels, clean, euler, half_log_snr, levels
from huggingvis.samplers._multistep import Form
from huggingvis.samplers.dpm_solver import OfData


@final
@dataclass(frozen=True)
class DPMSolverOnGrid(Sampler):
    """`values` 1, 2 or 3 a block; its state is (x and t at the block's start, ((m, lambda) of its steps)).

    `form`: `OfData` for DPM-Solver++, `OfNoise` for DPM-Solver, with fresh noise or without. `first_below`: a step that
    ends at such a time or before it begins a block of its own (diffusers' `lower_order_final`); 0 is only that to clean
    data, which must.
    """

    values: int = 2
    form: Form = OfData()
    midpoint: bool = True
    first_below: float = 0.0

    def __post_init__(self) -> None:
        if self.values not in (1, 2, 3):
            raise ValueError(f"DPM-Solver singlestep uses 1, 2 or 3 values; found {self.values}")

    @property
    def order(self) -> int:  # type: ignore[override]
        """That of a step over a whole block, in steps of the grid; 1 with fresh noise."""
        return 1 if self.form.spread(Levels(0.0, 1.0, 1.0, 1.0), 1.0) > 0.0 else self.values

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        x0 = clean(denoise(x, t))  # [B, ...]
        here = levels(process, t, s)
        if here.blind:
            return euler(x, x0, here), None
        told = (self.form.value(x, x0, here), half_log_snr(here.a_t, here.s_t))
        if state is None or float(s) <= self.first_below + 1e-12:
            state = (x, t, ())
        start, began, before = state
        block = (*before, told)
        c = levels(process, began, s)
        end = half_log_snr(c.a_s, c.s_s)
        if not math.isfinite(end):
            return c.a_s * x0, None
        h = end - block[0][1]
        out = self.form.decay(c, h) * start  # [B, ...]
        for w, m in self._weighed(block, self.form.integrals(c, h, 3), h):
            out = out + w * m
        spread = self.form.spread(c, h)
        if spread > 0.0:
            out = out + spread * noise.draw(x)
        return out, None if len(block) == self.values else (start, began, block)

    def _weighed(
        self, block: tuple[tuple[Tensor, float], ...], integrals: tuple[float, ...], h: float
    ) -> list[tuple[float, Tensor]]:
        """(weight, m) of the values of the block that count."""
        if self.midpoint and len(block) == 2:
            integrals = (integrals[0], integrals[0] / 2)
        used = (block[0], block[2]) if self.midpoint and len(block) == 3 else block
        nodes = [(at - block[0][1]) / h for _, at in used]
        found = weights(nodes, integrals[: len(used)])
        return [(w, m) for w, (m, _) in zip(found, used, strict=True)]
