r"""UniPC: a predictor of order p and, at no further call, a corrector that raises it to p + 1.

Zhao, Bai, Rao, Zhou, Lu 2023, arXiv 2302.04867, Algorithms 5-8. The predictor is the exponential integrator with the
polynomial through the last p values. The next call happens at its end; before going on, x is made again with that value
as one more node, u = 1 (UniC). The value itself is kept, not asked for again. Nodes are weighed exactly but for the two
places where the paper has a simpler choice: the second-order predictor and the first-order corrector weigh their one
difference by B(h)/2, B(h) being h (`bh1`) or the integral of 1 (`bh2`). Book: chapter 4, "Predict and correct".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, final

from torch import Tensor

from huggingvis.core.noise import Noise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Bound
from huggingvis.core.sampler import Sampler, State
from huggingvis.samplers._levels import Levels, clean, euler, half_log_snr, levels
from huggingvis.samplers._multistep import Form, moved
from huggingvis.samplers.dpm_solver import OfData

SYSTEM = {
    "name": "UniPC",
    "chapter": 4,
    "paper": "2302.04867",
    "files": ["samplers/_exponential.py"],
    "built": "tests/walks/test_samplers_by_name.py::test_every_sampler_draws_from_a_run[unipc]",
    "exact": [
        "tests/oracle/test_solvers.py::test_order_of_convergence",
        "tests/interop/test_multistep_schedulers.py::test_unipc",
    ],
    "trained": "benchmarks/curves/solvers.json",
    "explained": None,
    "usable": None,
}


class _Past(NamedTuple):
    """The step before: its start and levels, how many values it used, and values with their lambda, newest first."""

    x: Tensor
    levels: Levels
    used: int
    values: tuple[tuple[Tensor, float], ...]


@final
@dataclass(frozen=True)
class UniPC(Sampler):
    """UniPC with `values` of 1 to 3 in the predictor, its order. `form`: data or noise, without fresh noise.

    `linear`: bh1, else bh2. `first_below`, `second_below`: steps that end at such a time or before it predict with one
    value, at most two.
    """

    values: int = 2
    form: Form = OfData()
    linear: bool = False
    first_below: float = 0.0
    second_below: float = 0.0

    def __post_init__(self) -> None:
        if self.values not in (1, 2, 3):
            raise ValueError(f"UniPC predicts with 1, 2 or 3 values; found {self.values}")

    @property
    def order(self) -> int:  # type: ignore[override]
        """One more than the predictor's, which is the number of its values."""
        return self.values + 1

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        x0 = clean(denoise(x, t))  # [B, ...]
        c = levels(process, t, s)
        here, there = half_log_snr(c.a_t, c.s_t), half_log_snr(c.a_s, c.s_s)
        if c.blind:
            return euler(x, x0, c), None
        m = self.form.value(x, x0, c)  # [B, ...]
        past: tuple[tuple[Tensor, float], ...] = ()
        if state is not None:
            x, past = self._corrected(state, m, here), state.values
        values = ((m, here), *past)[: self.values]
        if not math.isfinite(there):
            return c.a_s * x0, None
        used = min(len(values), self._most(float(s)))
        return self._moved(x, c, values[:used], here, there, None), _Past(x, c, used, values)

    def _most(self, end: float) -> int:
        if end <= self.first_below + 1e-12:
            return 1
        return min(self.values, 2) if end <= self.second_below + 1e-12 else self.values

    def _corrected(self, past: _Past, m: Tensor, here: float) -> Tensor:
        """The end of the step before, made again with the value `m` that was found there."""
        c, values = past.levels, past.values[: past.used]
        return self._moved(past.x, c, values, values[0][1], here, m)

    def _moved(
        self,
        x: Tensor,
        c: Levels,
        values: tuple[tuple[Tensor, float], ...],
        here: float,
        there: float,
        end: Tensor | None,
    ) -> Tensor:
        h = there - here
        nodes = [(m, (at - here) / h) for m, at in values] + ([(end, 1.0)] if end is not None else [])
        return moved(self.form, x, c, h, nodes, h * self.form.rate(c) if self.linear else self._one(c, h))

    def _one(self, c: Levels, h: float) -> float:
        return self.form.integrals(c, h, 1)[0]
