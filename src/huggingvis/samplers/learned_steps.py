r"""A sampler whose coefficients are learned: few steps, each the best for a given model instead of the solver's.

Watson, Chan, Ho, Norouzi 2022, "Learning Fast Samplers for Diffusion Models by Differentiating Through Sample Quality"
(arXiv 2202.05830). GGDM: a step may look at every belief so far. With the grid t_0 > t_1 > ... > t_N and the belief
x_0^i held at t_i,

    x_{n+1} = a_n x_n + sum_{i <= n} b_{n i} x_0^i + c_n z

(the believed noise (x_n - alpha x_0^n)/sigma is such a sum). To begin with they are those of DDIM (Song, Meng, Ermon
2020, arXiv 2010.02502, Eq. 12); `objectives.sample_quality` fits them. Book: chapter 4, "Learned samplers".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from huggingvis.core.errors import UsageError
from huggingvis.core.grid import Grid
from huggingvis.core.noise import Noise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Bound
from huggingvis.core.sampler import Sampler, State
from huggingvis.samplers._levels import clean, levels


@final
class Coefficients(nn.Module):
    """a, b and c of every step along `grid`, float64. Fresh ones are DDIM's with the share `eta` of fresh noise.

    `kept` [N] is a, `beliefs` [N, N] is b (row n is step n's; nothing is read beyond its diagonal), `fresh` [N] is c.
    `noisy`: whether steps draw fresh noise at all.
    """

    def __init__(self, process: Process, grid: Grid, eta: float = 0.0):
        super().__init__()
        self.times, self.noisy = tuple(grid.times.tolist()), eta > 0
        each = [levels(process, t, s) for t, s in grid.pairs()]
        fresh = [eta * c.fresh**0.5 * c.s_s / c.s_t for c in each]
        kept = [max(c.s_s**2 - z**2, 0.0) ** 0.5 / c.s_t for c, z in zip(each, fresh, strict=True)]
        own = [c.a_s - c.a_t * a for c, a in zip(each, kept, strict=True)]
        self.kept = nn.Parameter(torch.tensor(kept, dtype=torch.float64))
        self.beliefs = nn.Parameter(torch.diag(torch.tensor(own, dtype=torch.float64)))
        self.fresh = nn.Parameter(torch.tensor(fresh, dtype=torch.float64), requires_grad=self.noisy)


@final
@dataclass(frozen=True, eq=False)
class LearnedSteps(Sampler):
    """GGDM's sampler with `numbers`. Raises `UsageError` on another grid than they are for."""

    numbers: Coefficients
    order = 1

    def init(self) -> State:
        """The beliefs so far."""
        return ()

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        n, c = len(state), self.numbers
        if n + 1 >= len(c.times) or (float(t), float(s)) != (c.times[n], c.times[n + 1]):
            raise UsageError(
                f"These learned steps are for a grid of {len(c.times) - 1} steps of its own; step {n + 1} of this one "
                f"goes from {float(t):g} to {float(s):g}. Sample on the grid that they were made for."
            )
        beliefs = (*state, clean(denoise(x, t)))
        weights = c.beliefs[n].to(x)  # [N]
        out = c.kept[n].to(x) * x + sum((weights[i] * x0 for i, x0 in enumerate(beliefs)), torch.zeros_like(x))
        if c.noisy:
            out = out + c.fresh[n].to(x) * noise.draw(x)
        return out, beliefs
