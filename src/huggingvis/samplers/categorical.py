r"""Ancestral sampling of classes: walk a categorical chain backwards.

    x_s ~ p(x_s | x_t) = sum_j p(x_0 = j | x_t) q(x_s | x_t, x_0 = j)              at every position by itself

Sohl-Dickstein et al. 2015, arXiv 1503.03585, Sec. 2.2, whose network gives the rates of the bits of p(x_s | x_t); here
they follow from its belief about x_0 (`core.categorical`), which reaches the same best rates: those of a position are
the mean of its posterior's. Book: chapter 4, "The first diffusion".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from huggingvis.core.categorical import CategoricalProcess, believed
from huggingvis.core.noise import Noise
from huggingvis.core.protocols import Bound
from huggingvis.core.sampler import State


@final
@dataclass(frozen=True)
class CategoricalAncestral:
    """The step that the belief implies, for any two times. The last one, to t = 0, draws from the belief itself."""

    def init(self) -> State:
        return None

    def step(
        self, denoise: Bound, process: CategoricalProcess, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        law = process.posterior(believed(denoise, x, t), x, t, s)  # [B, ..., K]
        return process.draw(law, noise.draw(x)), state
